"""What the benchmarks share: the machine, the report, an Evermuse that only counts, and a host with its processes."""
