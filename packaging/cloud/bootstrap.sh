#!/bin/sh
# Makes this machine a Longshore agent: engine, package, enrolment, service. What is done already is not done again.
#
#   longshore-bootstrap PACKAGES SUMS_SHA256
#
# PACKAGES     the folder with SHA256SUMS and the packages: https://..., s3://..., gs://..., or http:// inside your network.
#              A container of Azure's blob storage is read with the machine's managed identity.
# SUMS_SHA256  the digest of SHA256SUMS: what is installed is what you built, whoever can write to the folder.
#
# Before: /etc/longshore/agent.toml, /etc/longshore/ca.pem and, where agent.toml has no `join`, a join token in
# /run/longshore-join-token. What fails is in /var/log/cloud-init-output.log, and the exit code is not 0.
set -eu
umask 077
packages=$(echo "$1" | sed 's|/*$||')
pinned=$2
config=/etc/longshore/agent.toml
token_file=/run/longshore-join-token

fail() {
    echo "longshore-bootstrap: $*" >&2
    exit 1
}

# A URL into a file; further headers are read from standard input, where no list of processes shows them.
download() {
    curl --fail --silent --show-error --retry 8 --retry-connrefused --retry-max-time 300 --header @- --output "$2" "$1"
}

# The access token that the cloud gives this machine.
access_token() {
    curl --fail --silent --show-error --retry 8 --header "$2" "http://169.254.169.254/$1" |
        sed -n 's/.*"access_token" *: *"\([^"]*\)".*/\1/p'
}

fetch() {
    case $packages in
    s3://*)
        command -v aws >/dev/null || fail "s3:// needs the command \`aws\`: use an image with it, or an https:// address"
        aws s3 cp --only-show-errors "$packages/$1" "$1"
        ;;
    gs://*)
        token=$(access_token computeMetadata/v1/instance/service-accounts/default/token 'Metadata-Flavor: Google')
        printf 'Authorization: Bearer %s\n' "$token" |
            download "https://storage.googleapis.com/$(echo "$packages" | cut -c6-)/$1" "$1"
        ;;
    https://*.blob.core.windows.net/*)
        token=$(access_token 'metadata/identity/oauth2/token?api-version=2018-02-01&resource=https%3A%2F%2Fstorage.azure.com%2F' \
            'Metadata: true')
        printf 'Authorization: Bearer %s\nx-ms-version: 2021-08-06\n' "$token" | download "$packages/$1" "$1"
        ;;
    https://* | http://*) download "$packages/$1" "$1" </dev/null ;;
    *) fail "\`$packages\` is no https://, s3:// or gs:// address" ;;
    esac
}

engine() {
    if ! command -v dockerd >/dev/null; then
        if command -v apt-get >/dev/null; then
            apt-get update
            DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends docker.io iptables
        else
            dnf install --assumeyes docker iptables
        fi
    fi
    systemctl enable --now docker.service
}

package() {
    if [ -e /usr/bin/longshore-agent ]; then
        return
    fi
    if command -v dpkg >/dev/null; then
        end=_$(dpkg --print-architecture)\\.deb
    else
        end=\\.$(uname -m)\\.rpm
    fi
    folder=$(mktemp -d)
    cd "$folder"
    fetch SHA256SUMS
    echo "$pinned  SHA256SUMS" | sha256sum --check --quiet - || fail "SHA256SUMS in $packages is not the one that was asked for"
    name=$(sed -n "s/^[0-9a-f]\{64\}  \(longshore-agent[_-][0-9][A-Za-z0-9.+~_-]*$end\)\$/\1/p" SHA256SUMS)
    [ "$(echo "$name" | wc -w)" = 1 ] || fail "SHA256SUMS names not exactly one longshore-agent for this machine: \`$name\`"
    fetch "$name"
    grep "  $name\$" SHA256SUMS | sha256sum --check --quiet - || fail "$name is not what SHA256SUMS says"
    # agent.toml is there already, and stays.
    if command -v dpkg >/dev/null; then
        chmod 755 "$folder"
        DEBIAN_FRONTEND=noninteractive apt-get install --yes -o Dpkg::Options::=--force-confold "$folder/$name"
    else
        dnf install --assumeyes "$folder/$name"
    fi
    cd /
    rm -r "$folder"
}

enrol() {
    if [ -e /var/lib/longshore-agent/identity.json ] || [ ! -e "$token_file" ]; then
        return
    fi
    chown longshore-agent "$token_file"
    for pause in 5 10 20 40 60 60 60 60 0; do
        if runuser -u longshore-agent -- longshore-agent enroll --config "$config" --token-file "$token_file"; then
            rm "$token_file"
            return
        fi
        sleep "$pause"
    done
    fail "the controller did not take this machine in; \`longshore-agent doctor --config $config\` says what is wrong"
}

engine
package
longshore-agent check-config --config "$config"
enrol
# What it still waits for, `longshore-agent status` says.
systemctl enable --now --no-block longshore-agent.service
