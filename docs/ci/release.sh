#!/bin/sh
# release.sh BUILD VERSION: a share of the users first, everybody when that went well. For a CI job on the host of KMS; docs/ci.md
# explains it. Its exit code is kmsctl's: 5 and 6 mean that somebody else is at it, 7 that the build is no good and nobody is on it.
set -eu
build=$1 version=$2
why="${CI_JOB_URL:-by hand}, ${CI_COMMIT_SHA:-no commit}"

kmsctl deploy "$build" --as "$version" --canary "${SHARE:-10%}" --check "${CHECK:-true}" --wait-for-lease=30m --message "$why"

withdraw() {
    trap - INT TERM
    kmsctl canary withdraw "$version" --message "$why: $1"
    exit "$2"
}
trap 'withdraw "the job was stopped" 1' INT TERM

end=$(($(date +%s) + ${WATCH:-900}))
while [ "$(date +%s)" -lt "$end" ]; do
    sleep "${EVERY:-30}"
    kmsctl canary show "$version" --max-errors "${MAX_ERRORS:-1%}" || withdraw "its figures are bad" $?
done

trap - INT TERM
kmsctl canary promote "$version" --wait-for-lease=30m --message "$why"
