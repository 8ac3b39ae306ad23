"""The console: pages for people, which use the public API with the caller's own token.

They are static files, sent as they are here. `static/views` has a module for each page, and
`static/words.js` its words.
"""
