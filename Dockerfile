# syntax=docker/dockerfile:1
# SPDX-License-Identifier: Apache-2.0
# For those who expect one. `cargo xtask image` makes the same image without a daemon, and is what the
# tests check; this only runs it and takes the files out of the archive.
#
# The base must be a Debian with llvm-22-dev, which bpf-linker is built from: trixie has it, bookworm
# only among its security updates. `cargo xtask image` installs it. Nobody has built this file yet.
ARG DEBIAN=trixie
FROM rust:1.95-${DEBIAN} AS build
WORKDIR /src
COPY . .
RUN cargo xtask image --output /image.tar && mkdir /image /root-of-image && tar -xf /image.tar -C /image \
    && for blob in /image/blobs/sha256/*; do \
         if tar -tzf "$blob" >/dev/null 2>&1; then tar -xzf "$blob" -C /root-of-image; fi; \
       done

FROM scratch
COPY --from=build /root-of-image/ /
# Nobody: it does for the command line. The agent needs root, for capabilities are given to root only.
USER 65532:65532
ENV PATH=/usr/local/bin
ENTRYPOINT ["/usr/local/bin/pintle"]
LABEL org.opencontainers.image.title=pintle org.opencontainers.image.licenses=Apache-2.0
