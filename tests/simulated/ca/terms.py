"""The terms of service, and what happens when they change (RFC 8555 §7.3.3)."""

from __future__ import annotations

from dataclasses import dataclass

from tests.simulated.ca.problems import Problem, Refused


@dataclass(eq=False, slots=True)
class Terms:
    """The version that counts, and whether a human still has to agree to it."""

    base_url: str
    version: int = 1
    must_be_agreed_to: bool = False

    @property
    def url(self) -> str:
        """Where to read them."""
        return f"{self.base_url}/terms/v{self.version}"

    def change(self) -> None:
        """New terms, to which nobody has agreed."""
        self.version += 1
        self.must_be_agreed_to = True

    def require_agreement(self) -> None:
        """Refuse, and tell where a human can agree."""
        if self.must_be_agreed_to:
            detail = "Terms of service have changed"
            raise self._refused(detail, f"{self.base_url}/agree?to=v{self.version}")

    def require_word(self, agreed: object) -> None:
        """Refuse unless the client has said that its user agrees."""
        if agreed is not True:
            raise self._refused("must agree to terms of service")

    def _refused(self, detail: str, instance: str = "") -> Refused:
        problem = Problem("userActionRequired", detail, 403, instance=instance)
        return Refused(problem, headers={"link": f'<{self.url}>;rel="terms-of-service"'})
