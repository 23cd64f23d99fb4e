# Makes the word that the till answers to out of the payment key, and passes it on as a secret.
set -eu
receipt=$(printf 'receipt-%s' "$PAYMENT_KEY" | sha256sum | cut -c1-16)
printf '{"name":"receipt","value":"%s","secret":true}\n' "$receipt" >> "$LONGSHORE_OUTPUT"
echo "the till has its word: $receipt"
