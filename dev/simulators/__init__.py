"""Stand-ins for the payment service, the stock service and the carrier, over real HTTP.

They are somebody else's software, as far as orderly is concerned: nothing of ours is in them but
the format of webhooks, and their OpenAPI documents are the contract for the real ones.
"""
