#!/usr/bin/env bash
# make.sh NAME [CHECKOUT]: makes tests/earlier/NAME.tar.xz with the program of a checkout (this one, where none is named).
#
# An archive has a vault, what its examiner's machine kept, the examiner's key (which protects nothing), and `first.sha256`, the
# digests of what was acquired first. Archives are never made anew: what an earlier version wrote has to stay readable.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
name=$1
checkout=$(cd "${2:-$here/../..}" && pwd)
python="${PYTHON:-$here/../../.venv/bin/python}"

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
cd "$work"
mkdir home made source
export HOME="$work/home" PYTHONPATH="$checkout" EVIDENCESYNC_EXAMINER=Ana TZ=UTC
export XDG_DATA_HOME="$work/made/data" XDG_STATE_HOME="$work/made/state" XDG_CONFIG_HOME="$work/home/config"
evidencesync() { "$python" -P -m evidencesync "$@" >&2; }

ssh-keygen -q -t ed25519 -N '' -C ana@lab -f made/ana
ssh-keygen -q -t ed25519 -N '' -C ben@lab -f made/ben

# One of each: nothing, something, chunks with a hole, hard and symbolic links, odd names, what is no file, attributes.
mkdir -p source/folder/deep source/nothing
touch source/empty
echo hello >source/a.txt
{ head -c 140000 /dev/urandom; } >source/disk.img
truncate -s 1M source/disk.img
head -c 20000 /dev/urandom >>source/disk.img
ln source/a.txt source/folder/again.txt
ln -s ../a.txt source/folder/link
printf x >source/folder/$'line\nbreak \\ \033'
printf x >source/folder/$'not utf-8 \377'
printf same >source/folder/deep/same
chmod 4755 source/folder/deep/same
mkfifo source/folder/fifo
setfattr -n user.of -v something source/a.txt
touch -d '2001-02-03 04:05:06.789' source/folder/deep/same
(cd source && find . -type f -print0 | sort -z | xargs -0 sha256sum) >made/first.sha256

vault=made/vault
e1=(--case 2026/11 --item E1)
ana=(--sign-key made/ana) ben=(--sign-key made/ben)
evidencesync init $vault --name Laboratory --trust made/ana.pub --principal ana@lab
evidencesync trust add $vault made/ben.pub --principal ben@lab
evidencesync push source $vault "${e1[@]}" "${ana[@]}" --note first
echo more >>source/a.txt
printf XX | dd of=source/disk.img bs=1 seek=70000 conv=notrunc status=none
mv source/folder/deep source/folder/moved
evidencesync push source $vault "${e1[@]}" "${ana[@]}"
evidencesync push source/disk.img $vault --case 2026/11 --item E2 "${ben[@]}"
evidencesync custody note $vault "${e1[@]}" "${ana[@]}" --text seen || echo "$name: no custody commands" >&2
evidencesync custody hand-over $vault "${e1[@]}" "${ana[@]}" --to ben@lab --reason analysis || true
evidencesync custody accept $vault "${e1[@]}" "${ben[@]}" --condition good || true
evidencesync verify $vault "${e1[@]}" --record "${ana[@]}" || true
evidencesync custody seal $vault --case 2026/11 --item E2 "${ana[@]}" --reason closed || true
evidencesync trust retire $vault ben@lab

# A push that is killed leaves what the next one goes on with.
head -c 100000 /dev/urandom >source/large
evidencesync push source $vault --case 2026/11 --item E3 "${ana[@]}" --limit-rate 20k &
for _ in $(seq 100); do
  sleep 0.1
  [[ -z "$(find $vault/cases/*/E3/incoming -type f -size +0 2>/dev/null)" ]] || break
done
pkill -KILL -P $! || kill -KILL $! || true
wait || true

# What was written a minute before is not read again.
sleep 61
evidencesync push source/folder $vault --case 2026/11 --item E4 "${ana[@]}"
evidencesync push source/folder $vault --case 2026/11 --item E4 "${ana[@]}" --quick || echo "$name: no --quick" >&2

evidencesync verify $vault || true # an unfinished transfer is a warning
rm made/ben
tar -C made --sort=name --numeric-owner --owner=0 --group=0 -cJf "$here/$name.tar.xz" .
ls -l "$here/$name.tar.xz" >&2
