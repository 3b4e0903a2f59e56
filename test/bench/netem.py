"""netem.py QUEUE DELAY: holds every packet of a netfilter queue back for DELAY milliseconds, in order.

Stands in for "tc netem", which not every kernel has. Speaks nfnetlink itself: needs root, and a rule such as
`iptables -A OUTPUT -o lo -p tcp -j NFQUEUE --queue-num QUEUE`. Prints "ready" when it has taken the queue.
"""
import select
import socket
import struct
import sys
import time
from collections import deque

NETLINK_NETFILTER, SUBSYSTEM_QUEUE = 12, 3 << 8
PACKET, VERDICT, CONFIG = 0, 1, 2
REQUEST, REQUEST_ACK = 1, 5
ACCEPT = 1

queue, delay = int(sys.argv[1]), float(sys.argv[2]) / 1000
netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER)
netlink.bind((0, 0))
SO_RCVBUFFORCE = 33
netlink.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 32 << 20)


def send(kind, attribute, payload, flags):
    length = 4 + len(payload)
    body = struct.pack("=BBH", 0, 0, socket.htons(queue)) + struct.pack("=HH", length, attribute) + payload
    body += b"\0" * (-length % 4)
    netlink.send(struct.pack("=IHHII", 16 + len(body), SUBSYSTEM_QUEUE | kind, flags, 0, 0) + body)


def configure(attribute, payload):
    send(CONFIG, attribute, payload, REQUEST_ACK)
    netlink.recv(65536)


configure(1, struct.pack(">BBH", 1, 0, socket.AF_INET))  # bind
configure(2, struct.pack(">IB", 0, 1))  # without the packets' content
configure(3, struct.pack(">I", 65536))  # packets at most
print("ready", flush=True)


def identifiers(data):
    """The packets that a read tells of."""
    at = 0
    while at + 16 <= len(data):
        length, kind = struct.unpack_from("=IH", data, at)
        if length < 16:
            return
        inner = at + 20
        while kind == SUBSYSTEM_QUEUE | PACKET and inner + 4 <= at + length:
            size, attribute = struct.unpack_from("=HH", data, inner)
            if attribute & 0x7FFF == 1:
                yield struct.unpack_from(">I", data, inner + 4)[0]
            inner += max(4, (size + 3) & ~3)
        at += (length + 3) & ~3


held = deque()
while True:
    now = time.monotonic()
    while held and held[0][0] <= now:
        send(VERDICT, 2, struct.pack(">II", ACCEPT, held.popleft()[1]), REQUEST)
    wait = max(0, held[0][0] - now) if held else None
    if select.select([netlink], [], [], wait)[0]:
        data = netlink.recv(1 << 20)
        due = time.monotonic() + delay
        held.extend((due, identifier) for identifier in identifiers(data))
