"""Who acts, and what they may do: users, organisations, tokens, sessions, access to gated repositories, limits.

`permissions.py` is where to start: its `allowed` decides everything. `accounts.py` keeps users and quotas,
`organisations.py` who belongs to which; `tokens.py` tells whom a token speaks for (`issuing.py` makes the texts);
`sign_in.py` keeps passwords, browser sessions and invitations; `devices.py` the logins of programs; `access.py` the
requests for gated repositories; `limits.py` counts requests. Imported by repos, buckets, community, api, web and
`lmc hub`.
"""
