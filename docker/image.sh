#!/bin/bash
# Builds the image "moonring" from the Dockerfile. With a container engine: docker build. Without one: buildah, with a
# Debian base made by debootstrap and this machine's Rust toolchain and crates mounted into the build, so that no
# registry of images is needed. PROFILE=dev builds faster and forwards slower.
set -euo pipefail
cd "$(dirname "$0")/.."
PROFILE="${PROFILE:-release}"
BASE=localhost/moonring-base:bookworm
say() { printf '\n\033[1m== %s\033[0m\n' "$*"; }
root=()
[ "$(id -u)" = 0 ] || root=(sudo)

if docker info >/dev/null 2>&1; then
  say "Building with Docker"
  exec docker build --build-arg "PROFILE=$PROFILE" --tag moonring .
fi

if ! command -v buildah >/dev/null || ! command -v debootstrap >/dev/null; then
  say "No container engine: installing buildah and debootstrap with apt"
  "${root[@]}" apt-get update -qq
  "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends buildah debootstrap
fi
buildah=("${root[@]}" buildah --storage-driver vfs)

if ! "${buildah[@]}" inspect --type image "$BASE" >/dev/null 2>&1; then
  say "Making a Debian base image"
  folder="$PWD/target/image/base"
  "${root[@]}" rm -rf "$folder"
  mkdir -p "$folder"
  "${root[@]}" debootstrap --variant=minbase bookworm "$folder" ${MIRROR:+"$MIRROR"}
  "${root[@]}" rm -rf "$folder"/var/cache/apt/archives/*.deb "$folder"/var/lib/apt/lists/*
  container=$("${buildah[@]}" from scratch)
  "${buildah[@]}" copy --quiet "$container" "$folder" /
  "${buildah[@]}" commit --quiet --rm "$container" "$BASE"
  "${root[@]}" rm -rf "$folder"
fi

say "Fetching the crates, for the build without a network of its own"
cargo fetch --locked
say "Building with buildah (profile $PROFILE)"
mkdir -p target/image/cargo
"${buildah[@]}" bud --isolation chroot --network host --pull-never --format docker \
  --build-arg "BASE=$BASE" --build-arg "BUILD_BASE=$BASE" --build-arg "PROFILE=$PROFILE" --build-arg OFFLINE=1 \
  --volume "$(rustc --print sysroot):/opt/rust:ro" \
  --volume "${CARGO_HOME:-$HOME/.cargo}/registry:/usr/local/cargo/registry" \
  --tag moonring .
say "Built: localhost/moonring. Its size:"
"${buildah[@]}" images --format '{{.Name}} {{.Size}}' | grep moonring
