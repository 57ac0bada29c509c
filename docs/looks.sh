#!/usr/bin/env bash
# looks.sh FOLDER PAGE...: screenshots of HTML pages, narrow and wide, light and dark, and as paper.
set -euo pipefail
folder=$1
shift
mkdir -p "$folder"
browser=(timeout 60 "${CHROMIUM:-chromium}" --headless --no-sandbox --disable-gpu --hide-scrollbars)
for page in "$@"; do
    name=$(tr / - <<<"${page%.html}")
    # Headless windows are never narrower than 500 pixels: a frame of 360 stands in for a phone.
    frame="$folder/$name-frame.html"
    for scheme in light dark; do
        flags=()
        [[ $scheme == dark ]] && flags=(--blink-settings=preferredColorScheme=0)
        [[ $scheme == light ]] && flags=(--blink-settings=preferredColorScheme=1)
        printf '<body style="margin:0"><iframe src="file://%s" style="border:0;width:360px;height:6000px"></iframe>' \
            "$(realpath "$page")" >"$frame"
        "${browser[@]}" "${flags[@]}" --window-size=500,6000 \
            --screenshot="$folder/$name-360-$scheme.png" "file://$(realpath "$frame")" 2>/dev/null
        "${browser[@]}" "${flags[@]}" --window-size=1280,4000 \
            --screenshot="$folder/$name-1280-$scheme.png" "file://$(realpath "$page")" 2>/dev/null
    done
    "${browser[@]}" --print-to-pdf="$folder/$name.pdf" "file://$(realpath "$page")" 2>/dev/null
    rm "$frame"
done
