#!/bin/sh
# Makes the certificates of psl/src/client/tls/tests.rs with OpenSSL 3 and throws their keys away:
#
#   psl/tests/data/tls.sh
#
# They are valid for a hundred years; the tests say at which time they look.
set -eu
cd "$(dirname "$0")"
file=$PWD/tls.pem
keys=$(mktemp -d)
trap 'rm -rf "$keys"' EXIT
cd "$keys"

# key NAME OPTION...
key() {
    name=$1
    shift
    openssl genpkey -out "$keys/$name" "$@" 2>/dev/null
}

# own NAME OPTION...: a certificate that has signed itself, as plain "openssl req -x509" makes it:
# CA:TRUE.
own() {
    name=$1
    shift
    openssl req -x509 -key "$keys/$name" -subj "/CN=$name" -days 36500 -out "$name.pem" "$@"
}

# issue NAME CA EXTENSIONS OPTION...: a certificate with a P-256 key, issued by a CA.
issue() {
    name=$1 ca=$2
    printf '%b' "$3" >"$keys/extensions"
    shift 3
    key "$name" -algorithm EC -pkeyopt group:P-256
    openssl req -new -key "$keys/$name" -subj /CN=localhost -out "$keys/request"
    openssl x509 -req -in "$keys/request" -CA "$ca.pem" -CAkey "$keys/$ca" -days 36500 -extfile "$keys/extensions" \
        -set_serial 7 -out "$name.pem" "$@" 2>/dev/null
}

names='subjectAltName=DNS:localhost,IP:127.0.0.1\n'

# CAs, one of each kind of key.
key ca -algorithm EC -pkeyopt group:P-256
key ca-rsa1024 -algorithm RSA -pkeyopt rsa_keygen_bits:1024
key ca-rsa2048 -algorithm RSA -pkeyopt rsa_keygen_bits:2048
key ca-p521 -algorithm EC -pkeyopt group:P-521
key ca-k1 -algorithm EC -pkeyopt group:secp256k1
key ca-brainpool -algorithm EC -pkeyopt group:brainpoolP256r1
key ca-ed25519 -algorithm ED25519
key ca-ed448 -algorithm ED448
for ca in ca ca-rsa1024 ca-rsa2048 ca-p521 ca-k1 ca-brainpool ca-ed25519 ca-ed448; do
    own "$ca"
    issue "of-$ca" "$ca" "$names"
done

# Certificates that have signed themselves.
key self -algorithm EC -pkeyopt group:P-256
own self -addext subjectAltName=DNS:localhost
key self-nameless -algorithm EC -pkeyopt group:P-256
own self-nameless
key self-no-ca -algorithm EC -pkeyopt group:P-256
own self-no-ca -addext subjectAltName=DNS:localhost -addext basicConstraints=critical,CA:FALSE
key self-sha512 -algorithm EC -pkeyopt group:P-256
own self-sha512 -sha512 -addext subjectAltName=DNS:localhost

# Of a good CA.
issue sha512 ca "$names" -sha512
issue sha1 ca "$names" -sha1
issue rsa-sha1 ca-rsa2048 "$names" -sha1
issue rsa-sha512 ca-rsa2048 "$names" -sha512
issue rsa-pss ca-rsa2048 "$names" -sha256 -sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:32
issue nameless ca 'keyUsage=digitalSignature\n'
issue client ca "$names"'extendedKeyUsage=clientAuth\n'
issue critical ca "$names"'1.2.3.4=critical,ASN1:NULL\n'
issue no-ca ca "$names"'basicConstraints=critical,CA:FALSE\n'
issue of-no-ca no-ca "$names"

# Version 1, as "openssl x509 -req" makes them without extensions.
key v1 -algorithm EC -pkeyopt group:P-256
openssl req -new -key "$keys/v1" -subj /CN=localhost -out "$keys/request"
openssl x509 -req -in "$keys/request" -CA ca.pem -CAkey "$keys/ca" -days 36500 -set_serial 7 -out v1.pem 2>/dev/null

{
    sed '/^===/,$d' "$file"
    for certificate in *.pem; do printf '=== %s\n' "${certificate%.pem}" && cat "$certificate" && echo; done
} >new
mv new "$file"
