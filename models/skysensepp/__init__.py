"""SkySense++: its networks stand beside SkySense's, in `models/skysense`; golden cases end here."""
