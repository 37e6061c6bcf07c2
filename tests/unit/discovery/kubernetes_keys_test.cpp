// SPDX-License-Identifier: Apache-2.0
#include "discovery/kubernetes_keys.hpp"

#include <gtest/gtest.h>

#include "discovery/yaml_reader.hpp"

namespace mesh::discovery {
namespace {

struct Decoded {
  KubernetesSettings settings;
  Findings findings;
};

Decoded decode(std::string_view text) {
  Decoded decoded;
  const Document document("f.yaml", text);
  const auto value = read_yaml(document, text, decoded.findings);
  if (!value) return decoded;
  Decoder decoder(document, decoded.findings);
  decoder.table(kKubernetesTable, *value, &decoded.settings);
  finish_kubernetes(decoder, *value, decoded.settings);
  return decoded;
}

std::string yaml(const KubernetesSettings& settings) {
  std::string text;
  write_yaml(encode(kKubernetesTable, &settings, Secrets::kReveal), text);
  return text;
}

TEST(KubernetesKeys, what_is_encoded_decodes_to_the_same) {
  KubernetesSettings settings;
  settings.all = true;
  for (int i = 0; i < 2; ++i) {
    const std::string text = yaml(settings);
    const Decoded decoded = decode(text);
    EXPECT_EQ(decoded.findings.error_count(), 0u) << text;
    EXPECT_EQ(yaml(decoded.settings), text);
    settings = {.api_server = "https://10.0.0.1:6443",
                .kubeconfig = "/etc/kubeconfig",
                .namespaces = {"shop", "test"},
                .selector = "mesh in (on, yes)"};
  }
}

TEST(KubernetesKeys, nothing_is_imported_unless_it_is_selected) {
  EXPECT_EQ(decode("{}").findings.error_count(), 1u);
  EXPECT_EQ(decode("{all: false}").findings.error_count(), 1u);
  EXPECT_EQ(decode("{namespaces: []}").findings.error_count(), 1u);
  for (const char* const text :
       {"{all: true}", "{namespaces: [shop]}", "{selector: mesh=on}", "{selector: mesh=on, namespaces: [shop]}"}) {
    EXPECT_EQ(decode(text).findings.error_count(), 0u) << text;
  }
  EXPECT_EQ(decode("{all: true, selector: mesh=on}").findings.error_count(), 1u);
  EXPECT_EQ(decode("{all: true, namespaces: [shop]}").findings.error_count(), 1u);
}

TEST(KubernetesKeys, wrong_values_are_named) {
  for (const char* const text :
       {"{all: true, api_server: \"10.0.0.1:6443\"}", "{all: true, kubeconfig: kubeconfig}", "{namespaces: [Shop]}",
        "{namespaces: [shop, shop]}", "{all: true, check_interval: 100ms}", "{all: true, nonsense: 1}"}) {
    EXPECT_EQ(decode(text).findings.error_count(), 1u) << text;
  }
}

}  // namespace
}  // namespace mesh::discovery
