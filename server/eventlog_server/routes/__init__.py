"""The routes, one noun a file. A route parses, calls and returns; what it calls decides."""
