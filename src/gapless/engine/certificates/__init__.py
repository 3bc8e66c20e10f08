"""Certificates of the edge: made, read, ordered from an authority, kept, put in force.

``x509``    what is in them, whether one may be used, and those of our own making
``order``   one order at an ACME authority, from key to chain
``keeper``  the files, what is known of them, the orders under way
``report``  what people are told of them
"""
