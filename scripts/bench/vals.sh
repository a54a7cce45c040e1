#!/bin/sh
# vals.sh KEY PASSPHRASE FILE: the same as aws.sh with vals, a program in Go that reads parameters for others.
set -eu
umask 077
vals get "ref+awsssm:/$1?mode=singleparam" >"$3.p8"
PASSPHRASE=$(vals get "ref+awsssm:/$2?mode=singleparam")
export PASSPHRASE
openssl pkcs8 -topk8 -nocrypt -in "$3.p8" -passin env:PASSPHRASE -outform DER -out "$3"
rm "$3.p8"
