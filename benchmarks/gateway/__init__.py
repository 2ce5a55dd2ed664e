"""The gateway beside its peers on one machine: what is started, what is run through it, what is made of it.

`ways` starts PostgreSQL, the peers and pangate; `without` is pangate with parts of it off; `load` runs pgbench and
reads the kernel's accounts; `wire` fetches whole results; `cases` says what is run; `goals` what it is held to."""
