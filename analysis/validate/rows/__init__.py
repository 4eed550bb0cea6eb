"""From a row of a measured table to what was timed: one module an operation."""
