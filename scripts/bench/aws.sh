#!/bin/sh
# aws.sh KEY PASSPHRASE FILE: the start of a task without a sidecar, with the AWS CLI and openssl.
set -eu
umask 077
aws ssm get-parameter --with-decryption --name "$1" --query Parameter.Value --output text >"$3.p8"
PASSPHRASE=$(aws ssm get-parameter --with-decryption --name "$2" --query Parameter.Value --output text)
export PASSPHRASE
openssl pkcs8 -topk8 -nocrypt -in "$3.p8" -passin env:PASSPHRASE -outform DER -out "$3"
rm "$3.p8"
