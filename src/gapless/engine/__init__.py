"""The loop: the only place with a clock.

``paths`` where things lie · ``record`` the durable desired state · ``journal`` what happened ·
``releases`` snapshots and their environments · ``secrets`` the store of values ·
``observe`` one look · ``execute`` one step · ``controller`` the loop · ``api`` its HTTP face ·
``client`` the other end of it
"""
