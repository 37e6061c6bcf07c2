// SPDX-License-Identifier: Apache-2.0
#include "discovery/xds_keys.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "discovery/yaml_reader.hpp"

namespace mesh::discovery {
namespace {

using testing::HasSubstr;

struct Read {
  XdsSettings settings;
  Findings findings;
  [[nodiscard]] std::string error() const { return findings.errors.empty() ? "" : findings.errors.front().message; }
  [[nodiscard]] std::string warning() const {
    return findings.warnings.empty() ? "" : findings.warnings.front().message;
  }
};

Read read(const std::string& yaml) {
  Read result;
  const Document document("test.yaml", yaml);
  const auto value = read_yaml(document, yaml, result.findings);
  EXPECT_TRUE(value);
  Decoder decoder(document, result.findings);
  decoder.table(kXdsTable, *value, &result.settings);
  finish_xds_settings(decoder, *value, result.settings);
  return result;
}

TEST(XdsKeys, settings_are_read_and_written_alike) {
  const auto first = read(
      "server: \"grpcs://istiod.istio-system:15012\"\ntoken_file: /run/token\ntls: {ca_file: /ca.pem}\n"
      "node_id: sidecar~10.0.0.1~a.b~b.svc.cluster.local\nnode_cluster: c\nmetadata: {NAMESPACE: b}\n"
      "timeout: 5s\nkeepalive: 30s\n"
      "services: [\"outbound|*\", {match: orders, name: shop/orders, address: 240.64.0.9, port: 80}]\n");
  EXPECT_EQ(first.error(), "");
  EXPECT_EQ(first.warning(), "");
  EXPECT_EQ(first.settings.target(), "istiod.istio-system:15012");
  EXPECT_TRUE(first.settings.is_tls());
  EXPECT_EQ(first.settings.metadata, (std::vector<std::pair<std::string, std::string>>{{"NAMESPACE", "b"}}));
  EXPECT_EQ(first.settings.services[1],
            (XdsRule{.match = "orders", .name = "shop/orders", .address = "240.64.0.9", .port = 80}));

  const Value written = encode(kXdsTable, &first.settings, Secrets::kReveal);
  XdsSettings again;
  Findings findings;
  const Document document("again", "");
  Decoder decoder(document, findings);
  decoder.table(kXdsTable, written, &again);
  EXPECT_EQ(findings.error_count(), 0U);
  EXPECT_EQ(again, first.settings);
}

TEST(XdsKeys, where_the_server_is) {
  EXPECT_EQ(read("server: unix:///run/cp.sock\nservices: [a]\n").settings.target(), "unix:/run/cp.sock");
  for (const std::string server : {"localhost:18000", "http://localhost:18000", "grpc://", "grpc://localhost",
                                   "grpc://localhost:", "grpc://:80", "grpc://localhost:http", "grpc://h:1/path"}) {
    EXPECT_NE(read("server: \"" + server + "\"\nservices: [a]\n").error(), "") << server;
  }
}

TEST(XdsKeys, what_can_not_be_meant_is_said) {
  EXPECT_THAT(read("server: grpc://h:1\n").warning(), HasSubstr("no cluster is chosen"));
  EXPECT_THAT(read("services: ['*']\n").error(), HasSubstr("matches whatever is there"));
  EXPECT_THAT(read("services: [{match: a*, name: b}]\n").error(), HasSubstr("is for one cluster"));
  EXPECT_THAT(read("token_file: /t\nservices: [a]\n").warning(), HasSubstr("reads the token"));
  EXPECT_THAT(read("token_file: t\nservices: [a]\n").error(), HasSubstr("a path starts with /"));
  EXPECT_THAT(read("tls: {certificate: /c}\nservices: [a]\n").error(), HasSubstr("needs its key"));
}

}  // namespace
}  // namespace mesh::discovery
