"""What other balancers are told, made of the same stack: ``gapless render``. Pure.

``ask``      what the user says of that balancer: where it listens, what stands behind it
``balance``  what it is to do, as a value: made of stack and ask
``keys``     what becomes of each key of the file there: kept, emulated, refused
``nginx``    nginx's files; ``nginx_words`` quotes foreign values for it
``haproxy``  HAProxy's files: the live edge's own text, or a plain front before it
"""
