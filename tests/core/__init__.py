"""The core level: the pure middle of acmeistio, values in and values out. Seconds in total."""
