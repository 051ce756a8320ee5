"""Makes the calls with one SDK: python send.py SDK HOST WRITE_KEY CALLS.json"""

import json
import sys
from datetime import datetime

sdk, host, write_key, file = sys.argv[1:5]
if sdk == "segment-analytics-python":
    from segment.analytics.client import Client
else:
    from rudderstack.analytics.client import Client

failures = []
client = Client(write_key, host=host, on_error=lambda error, batch: failures.append(error))

# The SDKs take the parts of a message as arguments, in snake case.
NAMES = {"anonymousId": "anonymous_id", "userId": "user_id", "groupId": "group_id", "previousId": "previous_id"}
for c in json.load(open(file)):
    message = {NAMES.get(key, key): value for key, value in c["send"].items()}
    message["timestamp"] = datetime.fromisoformat(message["timestamp"].replace("Z", "+00:00"))
    getattr(client, c["call"])(**message)
client.flush()
client.join()
if failures:
    sys.exit(str(failures))
