#!/bin/sh
# Builds target/peers/pion from Debian's packages, offline. Go resolves their major versions (".../v3") for code in a
# GOPATH with a go.mod only, hence the link.
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
target=$(CDPATH='' cd -- "$here/../../.." && pwd)/target/peers
mkdir -p "$target/gopath/src"
ln -sfn "$here" "$target/gopath/src/pion"
cd "$target/gopath/src/pion"
GO111MODULE=off GOPATH="$target/gopath:/usr/share/gocode" go build -o "$target/pion"
