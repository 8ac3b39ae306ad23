"""The console: pages for people, which use the public API with the caller's own token.

They are static files, sent as they are here. `static/views` has a module for each page. What is
said of an order, and of its events, is in the words of the API.
"""
