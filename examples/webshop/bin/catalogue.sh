# Puts goods on the shelves: one line for each, into a file beside the counter. Run again it writes the same.
set -eu
dir=$(dirname "$COUNTER")/catalogue
mkdir -p "$dir"
goods=0
: > "$dir/$(basename "$COUNTER")"
while [ "$goods" -lt "$((SHELVES * 3))" ]; do
    goods=$((goods + 1))
    echo "$GREETING: article $goods" >> "$dir/$(basename "$COUNTER")"
done
echo "$goods goods on $SHELVES shelves"
echo "goods=$goods" >> "$LONGSHORE_OUTPUT"
