#!/usr/bin/env bash
# Run the tests on the Pythons of other Debian releases, each in a folder that debootstrap fills and that is
# removed afterwards: tests/pythons.sh [RELEASE]…, by default trixie (Python 3.13) and sid (Python 3.14).
#
# Debian's mirror is the one that this machine's apt uses, unless MIRROR names another; pip's index and the
# proxy are taken from the environment. TESTS holds arguments for pytest: TESTS=tests/unit runs the unit tests.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PATH:/usr/sbin:/sbin"

for tool in debootstrap unshare chroot; do
  if ! command -v "$tool" >/dev/null; then
    echo "$tool was not found: install it (on Debian and Ubuntu: apt-get install debootstrap util-linux)" >&2
    exit 1
  fi
done
if [ "$(id -u)" -ne 0 ]; then
  echo "debootstrap and chroot need root: sudo make test-pythons" >&2
  exit 1
fi

releases=("$@")
[ $# -gt 0 ] || releases=(trixie sid)
mirror="${MIRROR:-$(apt-get indextargets --format '$(REPO_URI)' 'Origin: Debian' 'Label: Debian' | sed -n 1p)}"
packages=python3,python3-venv,make,ca-certificates,adduser
results=()
root=""

finish() {
  local status=$?
  [ -z "$root" ] || rm -rf --one-file-system "$root"
  if [ "$status" -eq 0 ]; then
    printf 'passed on %s\n' "${results[@]}"
  else
    echo "FAILED on ${release:-no release} (exit status $status); passed before: ${results[*]:-none}" >&2
  fi
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# Run a command in $root: in its own namespaces, so that neither a mount nor a process outlives it.
inside() {
  local passed=(PIP_CERT=/etc/ssl/certs/ca-certificates.crt) name
  for name in PIP_INDEX_URL PIP_TRUSTED_HOST PIP_DEFAULT_TIMEOUT \
    http_proxy https_proxy no_proxy HTTP_PROXY HTTPS_PROXY NO_PROXY; do
    [ -z "${!name:-}" ] || passed+=("$name=${!name}")
  done
  unshare --mount --pid --fork --kill-child sh -c '
    mount -t proc proc "$0/proc" && mount -t tmpfs tmpfs "$0/dev/shm" && exec chroot "$0" "$@"' "$root" \
    env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 "${passed[@]}" sh -c "$1"
}

for release in "${releases[@]}"; do
  root="$(mktemp -d /var/tmp/order-sync-"$release"-XXXXXX)"
  chmod 755 "$root"
  echo "== $release: debootstrap"
  log="$root.log"
  if ! debootstrap --variant=minbase --include="$packages" "$release" "$root" $mirror >"$log" 2>&1; then
    tail -n 20 "$log" >&2
    rm -f "$log"
    exit 1
  fi
  rm -f "$log"
  cp /etc/resolv.conf /etc/hosts "$root/etc/"
  certificates="${PIP_CERT:-/etc/ssl/certs/ca-certificates.crt}" # whom this machine trusts, such as a proxy
  [ ! -f "$certificates" ] || cp "$certificates" "$root/etc/ssl/certs/ca-certificates.crt"
  mkdir "$root/order-sync"
  git ls-files -z --cached --others --exclude-standard |
    tar --null --files-from=- --ignore-failed-read -cf - | tar -C "$root/order-sync" -xf -
  python="$(inside 'python3 --version')"
  echo "== $release: $python"
  inside "cd /order-sync && make .venv/dev.stamp && .venv/bin/python -m tests.run -n 2 ${TESTS:-}"
  results+=("$release ($python)")
  rm -rf --one-file-system "$root"
  root=""
done
