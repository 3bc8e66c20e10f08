"""How many people were in each room when they were last counted."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    # With a default, so that the code of the release before goes on working.
    op.add_column("rooms", sa.Column("people", sa.Integer, nullable=False, server_default="0"))


def downgrade() -> None:
    op.drop_column("rooms", "people")
