"""At the door: who is calling, by what, and whether they may come in."""
