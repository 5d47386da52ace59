//! Only benchmarks: `cargo bench -p moonring-benches`, or `make bench`.
