"""The modules of Python's standard library whose documentation the demo reads."""

from __future__ import annotations

_MODULES = """
    abc annotationlib argparse array ast asyncio asyncio.base_events asyncio.events
    asyncio.futures asyncio.locks asyncio.protocols asyncio.queues asyncio.runners
    asyncio.streams asyncio.subprocess asyncio.taskgroups asyncio.tasks asyncio.timeouts
    asyncio.transports base64 bdb binascii bisect builtins bz2 calendar cmath cmd code codecs
    codeop collections collections.abc colorsys compileall compression.zstd
    concurrent.futures concurrent.futures.process concurrent.futures.thread configparser
    contextlib contextvars copy copyreg csv ctypes ctypes.util dataclasses datetime dbm dbm.dumb
    decimal difflib dis doctest email email.charset email.contentmanager email.encoders
    email.feedparser email.generator email.header email.headerregistry email.iterators
    email.message email.parser email.policy email.utils encodings encodings.idna enum errno
    faulthandler filecmp fileinput fnmatch fractions ftplib functools gc getopt getpass gettext
    glob graphlib gzip hashlib heapq hmac html html.parser http http.client http.cookiejar
    http.cookies http.server imaplib importlib importlib.abc importlib.machinery
    importlib.metadata importlib.resources importlib.resources.abc importlib.util inspect io
    ipaddress itertools json json.decoder json.encoder keyword linecache locale logging
    logging.config logging.handlers lzma mailbox marshal math mimetypes mmap modulefinder
    multiprocessing multiprocessing.connection multiprocessing.managers multiprocessing.pool
    multiprocessing.process multiprocessing.queues multiprocessing.shared_memory
    multiprocessing.synchronize netrc numbers operator optparse os os.path pathlib pdb pickle
    pickletools pkgutil platform plistlib poplib pprint profile pstats py_compile pyclbr pydoc
    queue quopri random re reprlib runpy sched secrets selectors shelve shlex shutil signal
    smtplib socket socketserver sqlite3 ssl stat statistics string string.templatelib stringprep
    struct subprocess symtable sys sysconfig tabnanny tarfile tempfile textwrap threading time
    timeit token tokenize tomllib trace traceback tracemalloc types typing unicodedata unittest
    unittest.case unittest.loader unittest.main unittest.mock unittest.result unittest.runner
    unittest.suite urllib.error urllib.parse urllib.request urllib.response urllib.robotparser
    uuid warnings wave weakref webbrowser wsgiref wsgiref.handlers wsgiref.headers
    wsgiref.simple_server wsgiref.util wsgiref.validate xml.dom xml.dom.domreg xml.dom.expatbuilder
    xml.dom.minidom xml.dom.pulldom xml.dom.xmlbuilder xml.etree.ElementInclude
    xml.etree.ElementTree xml.sax xml.sax.expatreader xml.sax.handler xml.sax.saxutils
    xml.sax.xmlreader xmlrpc.client xmlrpc.server zipapp zipfile zipimport zlib zoneinfo
"""

MODULES = tuple(_MODULES.split())
"""What is read, in this order. Left out: modules that are deprecated or gone in Python 3.13, bound
to one platform, or that act when imported (``this``, ``antigravity``, ``rlcompleter``), windows
(``tkinter``, ``turtle``, ``idlelib``) and tests. A module that this Python lacks is skipped."""
