# The server in a small image that runs as nobody in particular. The run line is in README.md, "Deploy".
#
# Both bases are arguments, so that `make image` can build this same file where there is no registry of images.
ARG BUILD_BASE=rust:1.95-slim-bookworm
ARG BASE=debian:bookworm-slim

FROM ${BUILD_BASE} AS build
# git: glommio's build script calls it. cmake, g++: aws-lc. make: LuaJIT.
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates cmake g++ git make \
 && rm -rf /var/lib/apt/lists/*
# /opt/rust: where `make image` mounts this machine's toolchain when the base has none.
ENV PATH=/usr/local/cargo/bin:/opt/rust/bin:/usr/sbin:/usr/bin:/sbin:/bin CARGO_HOME=/usr/local/cargo
ARG PROFILE=release
# Not empty: use the crates in $CARGO_HOME only.
ARG OFFLINE=
WORKDIR /src
COPY . .
RUN cargo ${OFFLINE:+--offline} install --locked --path src/server --bin moonring --root /out --profile ${PROFILE} \
 && strip --strip-debug /out/bin/moonring

FROM ${BASE}
RUN useradd --system --uid 10001 --home-dir /var/lib/moonring --create-home --shell /usr/sbin/nologin moonring
COPY --from=build /out/bin/moonring /usr/local/bin/moonring
COPY scripts /opt/moonring/scripts
# Mount the folder, not a single file: a file that is renamed over is not seen through a bind mount of itself.
VOLUME ["/opt/moonring/scripts", "/var/lib/moonring"]
# TCP beside UDP: with --media-tcp.
EXPOSE 8080/tcp 40000-40100/udp 40000-40100/tcp
USER moonring
WORKDIR /var/lib/moonring
ENTRYPOINT ["/usr/local/bin/moonring", "--scripts-dir=/opt/moonring/scripts", "--data-dir=/var/lib/moonring"]
