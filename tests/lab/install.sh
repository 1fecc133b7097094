#!/bin/sh
# Installs the Debian packages of the mail lab, those that are missing only. Idempotent; quick when all are present.
# With the word "prometheus" also those of packages-prometheus.txt (370 MB), with "browser" packages-browser.txt (290 MB).
# Needs root, or sudo that asks for nothing. No daemon is started by the installation.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
packages=$(grep -v '^#' "$here/packages.txt")
for more in "$@"; do
    packages="$packages $(grep -v '^#' "$here/packages-$more.txt")"
done

missing=
for package in $packages; do
    [ "$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

if [ "$(id -u)" -eq 0 ]; then
    as_root=
elif command -v sudo >/dev/null; then
    as_root="sudo -n"
else
    echo "the mail lab needs these Debian packages, and neither root nor sudo is at hand:$missing" >&2
    exit 1
fi

# A package's own start-up script asks policy-rc.d first: 101 means "not allowed".
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap '$as_root rm -f "$policy"' EXIT INT TERM
    printf '#!/bin/sh\nexit 101\n' | $as_root tee "$policy" >/dev/null
    $as_root chmod 755 "$policy"
fi

# Another installation may hold debconf's lock for a moment.
tries=60
until echo "postfix postfix/main_mailer_type select No configuration" | $as_root debconf-set-selections 2>/dev/null; do
    tries=$((tries - 1))
    if [ "$tries" -eq 0 ]; then
        echo "debconf stays locked" >&2
        exit 1
    fi
    sleep 1
done

install() {
    # shellcheck disable=SC2086  # a list of words is meant
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -o Dpkg::Use-Pty=0 -o DPkg::Lock::Timeout=300 \
        install -y --no-install-recommends $missing >"$log" 2>&1
}

log=$(mktemp)
echo "installing the mail lab's packages:$missing"
if ! install; then
    # Most often there is no package list yet, or an old one.
    $as_root apt-get -qq -o DPkg::Lock::Timeout=300 update >>"$log" 2>&1 || true
    if ! install; then
        cat "$log" >&2
        rm -f "$log"
        exit 1
    fi
fi
rm -f "$log"
