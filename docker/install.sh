#!/bin/sh
# Installs the program by one lock into /opt/forewarn, and keeps only what some part of it imports.
set -eu
lock="$1"
bin=/opt/forewarn/bin
site=$($bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')

# shellcheck disable=SC2046  # several words, or none
$bin/pip install --quiet $(cat /pip.args) --require-hashes --no-deps --only-binary :all: -r "$lock"
$bin/pip install --quiet --no-index --no-deps /dist/*.whl
python3 /sbom.py "$lock" /var/lib/dpkg/status > /opt/forewarn/sbom.cdx.json
$bin/pip uninstall --quiet --yes setuptools pip

# Other packages' commands: nobody calls them here, and some of them write to machines.
find $bin -mindepth 1 ! -name 'python*' ! -name forewarn -delete
# Of plotly only the script for browsers is served; Python never imports it.
find "$site/plotly" -type f ! -path "$site/plotly/__init__.py" ! -name plotly.min.js -delete
rm -rf "$site/narwhals"
# ONNX Runtime's own copy for C programs; its Python module holds everything once more.
rm -rf "$site"/onnxruntime/capi/libonnxruntime.so.* "$site/onnxruntime/transformers"
rm -rf /opt/forewarn/share /opt/forewarn/include
find "$site" -depth -type d -name tests -exec rm -rf {} +
find "$site" -name '*.pyi' -delete
find "$site" -depth -type d -empty -delete

# Byte code: the root is read-only, and each health check would compile its modules anew. The two
# left out are large, and only the demo's OPC UA server and coloured source code would want them.
find /opt/forewarn -depth -type d -name __pycache__ -exec rm -rf {} +
$bin/python -m compileall -q -x 'standard_address_space/|pygments/lexers/' "$site"
