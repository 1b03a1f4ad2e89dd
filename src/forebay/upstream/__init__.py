"""The network towards upstreams: a guarded client and what is known of mirrors."""
