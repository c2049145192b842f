"""Hand-written machinery that no reader of the paper steps through: doors, stores, the command line."""
