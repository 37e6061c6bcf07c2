// SPDX-License-Identifier: Apache-2.0
// `relay.acme:`.
#include "app/acme_keys.hpp"

#include <gtest/gtest.h>

#include "app/config.hpp"
#include "app/relay_keys.hpp"

namespace mesh::app {
namespace {

LoadResult parse(const std::string& acme) {
  return parse_config(
      {{"meshd.yaml", "meshd.yaml", "apiVersion: meshd/v1\nagent: {cgroups: [/a]}\nrelay:\n  acme: {" + acme + "}\n"}});
}

std::string first_error(const std::string& acme) {
  const LoadResult result = parse(acme);
  return result.good() ? "" : result.errors.front().message;
}

const std::string kBase = "directory: \"https://ca/dir\", terms_agreed: true, issuer_node: a";
const std::string kShop = ", certificates: [{name: shop, names: [Shop.Example.com.]}]";

TEST(AcmeKeys, are_read_and_read_back) {
  const LoadResult result =
      parse(kBase + kShop +
            ", contact: [\"mailto:a@b.c\"], eab: {kid: k, key: /k}, ca: /ca, folder: /f, challenge: "
            "http-01, listen: \"10.0.0.1:80\", key_type: rsa-2048, renew_before: 10d");
  ASSERT_TRUE(result.good()) << result.error().to_string();
  const acme::Settings& acme = result.config.relay.acme;
  EXPECT_EQ(acme.certificates[0].names, std::vector<std::string>{"shop.example.com"});
  EXPECT_EQ(acme.challenge, acme::Challenge::kHttp01);
  EXPECT_EQ(acme.key_type, tls::KeyType::kRsa2048);
  const auto again = parse_relay_settings(encode_relay_settings(result.config.relay));
  ASSERT_TRUE(again) << again.error().to_string();
  EXPECT_EQ(*again, result.config.relay);
}

TEST(AcmeKeys, say_what_is_missing_or_can_not_work) {
  EXPECT_EQ(first_error(kBase + kShop), "");
  EXPECT_EQ(first_error("terms_agreed: true"), "acme names no issuer");
  EXPECT_EQ(first_error("directory: \"http://ca\"" + kShop), "acme's directory is no https URL");
  EXPECT_EQ(first_error("directory: \"https://ca\", issuer_node: a" + kShop),
            "acme needs your agreement to the issuer's terms");
  EXPECT_EQ(first_error("directory: \"https://ca\", terms_agreed: true" + kShop),
            "acme does not say which node fetches");
  EXPECT_EQ(first_error(kBase), "acme fetches nothing");
  EXPECT_EQ(first_error(kBase + kShop + ", eab: {kid: k}"), "acme's eab has only one of kid and key");
  const auto names = [](const std::string& list) {
    return first_error(kBase + ", certificates: [{name: shop, names: [" + list + "]}]");
  };
  EXPECT_EQ(names("\"*.example.com\""), "'*.example.com' is no name that an issuer can look at");
  EXPECT_EQ(names("localhost"), "'localhost' is no name that an issuer can look at");
  EXPECT_EQ(names(""), "a certificate is for 1 to 100 names");
  EXPECT_EQ(first_error(kBase + ", certificates: [{name: ../x, names: [a.test]}]"),
            "a certificate's name is 1 to 63 of a-z 0-9 -");
  EXPECT_EQ(first_error(kBase + ", certificates: [{name: a, names: [a.test]}, {name: a, names: [b.test]}]"),
            "two certificates of acme are called a");
}

}  // namespace
}  // namespace mesh::app
