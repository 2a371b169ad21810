# What people run, and how. `just --list` shows it.

# The checks that have to pass before a change lands.
check:
    .ci/run

# Formats the code.
fmt:
    cargo fmt

# Clippy, with warnings denied.
lint:
    cargo clippy --all-targets -- --deny warnings

# The engine's property test with many more cases than a normal run has.
property CASES="1000000":
    PROPTEST_CASES={{ CASES }} cargo test --release --lib engine

# One test, many times over: a flake is a bug. `just again ten_thousand`
again TEST TIMES="50":
    cargo test --test {{ TEST }} --no-run
    for n in $(seq {{ TIMES }}); do echo "run $n"; cargo test --quiet --test {{ TEST }} || exit 1; done

# The figures of docs/benchmarks.md, on an otherwise idle machine of at least two cores.
bench *ARGS:
    cargo bench --bench dispatch -- {{ ARGS }}

# Licences, bans and sources. Needs cargo-deny.
deny:
    cargo deny check licenses bans sources

# Simulated worlds that lose no event. `WAKEFUL_SEED=7 cargo test --test sim` lives through one alone.
sim WORLDS="10000":
    WAKEFUL_SEEDS={{ WORLDS }} cargo test --test sim no_world -- --nocapture

# A real agent, killed again and again.
crash KILLS="1000":
    WAKEFUL_KILLS={{ KILLS }} cargo test --test crash -- --nocapture

# A real gateway, killed again and again.
gateway-crash KILLS="500":
    WAKEFUL_KILLS={{ KILLS }} cargo test --test gateway_kills -- --nocapture

# The gateway's figures of docs/benchmarks.md.
bench-rest *ARGS:
    cargo bench --bench rest -- {{ ARGS }}

# Each fuzz target for so many seconds. Needs a nightly toolchain and cargo-fuzz.
fuzz SECONDS="60":
    cd fuzz && for target in record recovery engine request; do cargo +nightly fuzz run $target -- -max_total_time={{ SECONDS }} || exit 1; done
