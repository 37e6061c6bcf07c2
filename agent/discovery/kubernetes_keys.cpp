// SPDX-License-Identifier: Apache-2.0
#include "discovery/kubernetes_keys.hpp"

#include <algorithm>

namespace mesh::discovery {
namespace {

using namespace std::chrono_literals;

const KubernetesSettings kFresh{};

/// `""` is what a key without a value is encoded as.
bool is_empty(const Value& value) { return value.kind == Value::Kind::kString && value.text.empty(); }

void decode_url(Decoder& decoder, const Key& key, const Value& value, void* target) {
  std::string text;
  if (is_empty(value)) return static_cast<KubernetesSettings*>(target)->api_server.clear();
  if (!decoder.string(key, value, text)) return;
  if (!text.starts_with("https://") && !text.starts_with("http://")) {
    decoder.error(value, "'" + text + "' is no http:// or https:// URL", "write it as https://10.0.0.1:6443");
    return;
  }
  static_cast<KubernetesSettings*>(target)->api_server = std::move(text);
}

void decode_kubeconfig(Decoder& decoder, const Key& key, const Value& value, void* target) {
  std::string text;
  if (is_empty(value)) return static_cast<KubernetesSettings*>(target)->kubeconfig.clear();
  if (!decoder.string(key, value, text)) return;
  if (!text.starts_with('/')) {
    decoder.error(value, "a path starts with /");
    return;
  }
  static_cast<KubernetesSettings*>(target)->kubeconfig = std::move(text);
}

bool is_namespace(std::string_view text) {
  return !text.empty() && text.size() <= 63 &&
         std::ranges::all_of(text, [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-'; });
}

void decode_namespaces(Decoder& decoder, const Key&, const Value& value, void* target) {
  std::vector<std::string> names;
  if (!decoder.strings(value, names)) return;
  if (names.size() > kMaxNamespaces) {
    decoder.error(value, "more than " + std::to_string(kMaxNamespaces) + " namespaces",
                  "each is watched for itself: use a selector, or all: true");
    return;
  }
  for (std::size_t i = 0; i < names.size(); ++i) {
    decoder.element(value.items[i], i, [&](const Value& item) {
      if (!is_namespace(names[i])) decoder.error(item, "'" + names[i] + "' is no name of a namespace");
      if (std::find(names.begin(), names.begin() + static_cast<std::ptrdiff_t>(i), names[i]) !=
          names.begin() + static_cast<std::ptrdiff_t>(i)) {
        decoder.error(item, names[i] + " stands twice", "remove one of them");
      }
    });
  }
  static_cast<KubernetesSettings*>(target)->namespaces = std::move(names);
}

constexpr Key kKeys[] = {
    with_decode(
        key<&KubernetesSettings::api_server>(
            "api_server", "URL of the API server; \"\" is that of the pod's environment, or of the kubeconfig."),
        decode_url),
    with_decode(key<&KubernetesSettings::kubeconfig>(
                    "kubeconfig", "A kubeconfig, for an agent that is no pod; \"\" is the pod's service account."),
                decode_kubeconfig),
    key<&KubernetesSettings::context>("context", "Context of the kubeconfig; \"\" is its current one."),
    key<&KubernetesSettings::tls_server_name>(
        "tls_server_name",
        "Name to verify the API server by; \"\" is the host of its URL, or what the kubeconfig says."),
    with_decode(key<&KubernetesSettings::namespaces>("namespaces", "Import the services of these namespaces."),
                decode_namespaces),
    key<&KubernetesSettings::selector>("selector",
                                       "Import the services whose labels match: \"mesh=on\", \"tier in (a,b)\"."),
    key<&KubernetesSettings::all>("all", "Import all services of the cluster."),
    key<&KubernetesSettings::headless>("headless",
                                       "Also services without an address; they get one from the agent's range."),
    key<&KubernetesSettings::external_addresses>(
        "external_addresses",
        "Also externalIPs and addresses of load balancers; who may write a service may then take "
        "over any address on the nodes."),
    key<&KubernetesSettings::node>("node", "Name of this node in the cluster; \"\" is agent.node, or $NODE_NAME."),
    key<&KubernetesSettings::zone>(
        "zone", "Zone of this node; \"\" is agent.zone, or what the node's label in the cluster says."),
    key<&KubernetesSettings::check_interval>(
        "check_interval", "A server that said nothing for so long is asked whether it is there.", between(1s, 10min)),
};

}  // namespace

const Table kKubernetesTable{.name = "kubernetes", .keys = kKeys, .defaults = &kFresh};

void finish_kubernetes(Decoder& decoder, const Value& value, KubernetesSettings& settings) {
  const bool selects = settings.all || !settings.selector.empty() || !settings.namespaces.empty();
  if (!selects) {
    decoder.error(value, "selects no services", "write namespaces: [shop], selector: \"mesh=on\", or all: true");
  }
  if (settings.all && (!settings.selector.empty() || !settings.namespaces.empty())) {
    decoder.error(value, "all: true and a selection exclude each other", "remove one of them");
  }
}

}  // namespace mesh::discovery
