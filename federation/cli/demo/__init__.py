"""`federation demo`: the main job on real input, each step's effect checked in the database."""
