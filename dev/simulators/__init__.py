"""Simulators of the payment service, the stock service and the carrier, over real HTTP.

They know nothing of orderly but the signature of callbacks, as other companies' services would.
Their OpenAPI documents are the contract for real services.
"""
