// SPDX-License-Identifier: Apache-2.0
// `tls:` of a listener.
#include <gtest/gtest.h>

#include "app/config.hpp"
#include "app/relay_keys.hpp"

namespace mesh::app {
namespace {

LoadResult parse(const std::string& listeners) {
  return parse_config({{"meshd.yaml", "meshd.yaml",
                        "apiVersion: meshd/v1\nagent: {cgroups: [/a]}\nrelay:\n  listeners:\n" + listeners}});
}

std::string first_error(const std::string& listeners) {
  const LoadResult result = parse(listeners);
  return result.good() ? "" : result.errors.front().message;
}

TEST(RelayTlsKeys, are_read_back_and_refused_when_they_can_not_work) {
  const auto with = [](const std::string& keys) {
    return "    - {name: a, address: \"10.0.0.1:1\", service: web, tls: {" + keys + "}}\n";
  };
  const LoadResult result =
      parse(with("certificates: [{folder: /c}, {certificate: /a.crt, key: /a.key}], min_version: \"1.3\", alpn: [h2], "
                 "client: {verify: require, ca: /ca.pem, crl: /crl.pem}"));
  ASSERT_TRUE(result.good()) << result.error().to_string();
  const relay::TlsSettings& tls = result.config.relay.listeners[0].tls;
  EXPECT_EQ(tls.certificates[0].folder, "/c");
  EXPECT_EQ(tls.min_version, "1.3");
  EXPECT_EQ(tls.alpn, std::vector<std::string>{"h2"});
  EXPECT_EQ(tls.client, (relay::ClientSettings{tls::ClientVerify::kRequire, "/ca.pem", "/crl.pem"}));
  const auto again = parse_relay_settings(encode_relay_settings(result.config.relay));
  ASSERT_TRUE(again) << again.error().to_string();
  EXPECT_EQ(*again, result.config.relay);

  const std::string good = "certificates: [{folder: /c}]";
  EXPECT_EQ(first_error(with("certificates: [{certificate: /a}]")), "names neither a pair of files nor a folder alone");
  EXPECT_EQ(first_error(with("certificates: [{folder: /c, key: /a}]")),
            "names neither a pair of files nor a folder alone");
  EXPECT_EQ(first_error(with(good + ", client: {verify: require}")),
            "verifies clients and names nobody who issues their certificates");
  EXPECT_EQ(first_error(with(good + ", client: {crl: /crl}")), "has revocation lists and no ca");
  EXPECT_EQ(first_error(with(good + ", alpn: [\"\"]")), "must be at most 16 names of 1 to 255 bytes");
  EXPECT_NE(first_error(with(good + ", min_version: \"1.1\"")), "");
}

}  // namespace
}  // namespace mesh::app
