#!/bin/sh
# Runs the emulator that stands beside this script. Its packages are installed
# once, into a virtual environment under SLUIS_EMULATOR_CACHE.
set -eu
here=$(dirname "$0")
cache=${SLUIS_EMULATOR_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/sluis}
env=$cache/bqemulator-$(cksum <"$here/requirements.txt" | cut -d' ' -f1)
mkdir -p "$cache"
(
	flock 9
	if [ ! -e "$env/complete" ]; then
		rm -rf "$env"
		python3 -m venv "$env"
		"$env/bin/pip" install --quiet --disable-pip-version-check --no-deps -r "$here/requirements.txt" >&2
		touch "$env/complete"
	fi
) 9>"$cache/lock"
exec "$env/bin/python" "$here/launch.py"
