"""OpenPGP decryption, as far as data keys need it: RFC 9580, RFC 4880 before it, and LibrePGP's OCB packet.

`message.Message` opens a message with the secret keys that `keys.read_ring` found. Knows nothing of SOPS.

Not here: signatures (a data key's own MAC says what it is worth), trust, flags and expiry (sops looks at none of them).
"""
