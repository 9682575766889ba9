"""How votes are counted: values and pure functions, a mechanism a file; knows no store, no clock and no signature."""
