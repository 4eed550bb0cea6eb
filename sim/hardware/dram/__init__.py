"""One DRAM channel at command level: banks, rows, timings, refresh, FR-FCFS (decision 0023).

`simulate` of `channel` runs a stream of `patterns` through a `Controller` on a `DramSpec`.
Reading order: `timing`, `controller`, `address`, `channel`, then `state` and `loop`.
"""
