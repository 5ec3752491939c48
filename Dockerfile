# syntax=docker/dockerfile:1

# rhio's image: the program, the C library, CA certificates and no shell. It takes BuildKit, Docker's builder since 23.
#
#   docker build --tag rhio .
#
# The platform is the machine's own. For several platforms each is built on a machine of its kind, as
# .github/workflows/release.yml does: emulation takes hours, and a cross compiler is one more thing to keep in step.

# The same as rust-version in Cargo.toml.
ARG RUST_VERSION=1.95

# The same Debian release as the runtime image below: what is linked here must find a C library there that is no older.
FROM rust:${RUST_VERSION}-slim-trixie AS rust
WORKDIR /src

# The workspace. A crate that only tests need comes without code (.dockerignore): cargo wants every member, or
# Cargo.lock would not hold, but builds nothing of it. It gets an empty library in place of its programs.
FROM rust AS sources
COPY . .
RUN set -e; for manifest in */Cargo.toml; do \
        crate=${manifest%/*}; \
        if [ ! -d "$crate/src" ]; then \
            sed -i '/^\[\[/,/^$/d' "$manifest"; \
            mkdir "$crate/src"; \
            touch "$crate/src/lib.rs"; \
        fi; \
    done

# The same without any code. The builder compares content: what is made from this is made again only when a manifest or
# Cargo.lock has changed. Tools that do this exist; they would be one more thing to build and to trust.
FROM sources AS manifests
RUN set -e; \
    find ./*/src -type f ! -path './*/src/lib.rs' ! -path './*/src/main.rs' -delete; \
    find ./*/src -mindepth 1 -type d -empty -delete; \
    for library in ./*/src/lib.rs; do : > "$library"; done; \
    for program in ./*/src/main.rs; do echo 'fn main() {}' > "$program"; done

FROM rust AS build
# The programs, each in the package of its name. A package that is new here needs its code in .dockerignore, too.
ARG PROGRAMS="rhio"
# Dependencies are a layer and not a cache mount, because caches of CI services keep layers only. Packages are named, so
# that the features which test crates ask of a dependency stay out.
COPY --from=manifests /src .
RUN for program in ${PROGRAMS}; do set -- "$@" --package "$program"; done; \
    cargo build --release --locked "$@"
# The code itself. Cargo goes by times of change, and the empty files above were compiled after these were written.
COPY --from=sources /src .
RUN set -e; \
    find ./*/src -name '*.rs' -exec touch {} +; \
    for program in ${PROGRAMS}; do set -- "$@" --package "$program" --bin "$program"; done; \
    cargo build --release --locked --offline "$@"; \
    mkdir -p /image/bin /image/state; \
    for program in ${PROGRAMS}; do cp "target/release/$program" /image/bin/; done

# glibc, libgcc and CA certificates. Beside debian:trixie-slim it is a third of the size and has no shell and no package
# manager to keep up to date. musl would be smaller still; its allocator is slow with many threads. The tag moves with
# Debian's security updates, so that building again brings them.
FROM gcr.io/distroless/cc-debian13:nonroot
# Everything that rhio writes is below its working directory, unless the configuration says otherwise.
COPY --from=build --chown=65532:65532 /image/state /var/lib/rhio
COPY LICENSE /usr/share/doc/rhio/copyright
COPY --from=build --chown=0:0 /image/bin /usr/local/bin

# A number: Kubernetes can tell from a number that it is not root.
USER 65532:65532
WORKDIR /var/lib/rhio
# Other nodes; health, metrics and dashboard.
EXPOSE 9102/udp 3000/tcp
# rhio is process 1: it handles the signal itself and starts no other processes, so it needs no init above it.
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/local/bin/rhio"]
# No HEALTHCHECK: Kubernetes ignores it and asks /livez and /readyz, and elsewhere it would have rhio restarted because
# NATS is away, which mends nothing.

# Last, because they change with every build.
ARG VERSION="dev"
ARG REVISION="unknown"
ARG CREATED="unknown"
ARG SOURCE="unknown"
LABEL org.opencontainers.image.title="rhio" \
      org.opencontainers.image.description="Replicates NATS JetStream subjects and S3 buckets between clusters, peer to peer and verified" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.source="${SOURCE}" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}"
