// SPDX-License-Identifier: Apache-2.0
#include "discovery/consul_keys.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "discovery/json_reader.hpp"

namespace mesh::discovery {
namespace {

using testing::HasSubstr;

struct Decoded {
  ConsulSettings settings;
  std::string error;  ///< The first one; empty: none.
};

Decoded decode(const std::string& text) {
  Decoded result;
  Findings findings;
  const Document document("f", text);
  const auto value = read_json(document, text, nullptr, findings);
  if (value) {
    Decoder decoder(document, findings);
    decoder.table(kConsulTable, *value, &result.settings);
  }
  if (findings.error_count() > 0) result.error = findings.errors.front().to_string();
  return result;
}

TEST(ConsulKeys, rules_are_names_patterns_or_maps) {
  const auto [settings, error] = decode(
      R"({"address":"https://c:8501/","services":["orders","pay-*",{"match":"old","name":"shop/old","port":80},"all"]})");
  EXPECT_EQ(error, "");
  EXPECT_EQ(settings.address, "https://c:8501");
  ASSERT_EQ(settings.services.size(), 4U);
  EXPECT_TRUE(settings.services[0].is_exact());
  EXPECT_FALSE(settings.services[1].is_exact());
  EXPECT_EQ(settings.services[2].name, "shop/old");
  EXPECT_EQ(settings.services[2].port, 80);
  EXPECT_FALSE(settings.services[3].is_exact());
}

TEST(ConsulKeys, everything_is_taken_only_when_it_is_typed) {
  for (const char* pattern : {"*", "**", "?*", ""}) {
    EXPECT_THAT(decode(R"({"services":[")" + std::string(pattern) + R"("]})").error, HasSubstr("write all")) << pattern;
  }
  EXPECT_EQ(decode("{}").settings.services.size(), 0U);
}

TEST(ConsulKeys, what_is_for_one_service_needs_its_name) {
  EXPECT_THAT(decode(R"({"services":[{"match":"pay-*","address":"240.64.0.9"}]})").error,
              HasSubstr("can match several"));
  EXPECT_THAT(decode(R"({"services":[{"match":"all","name":"x"}]})").error, HasSubstr("can match several"));
  EXPECT_THAT(decode(R"({"services":[{"name":"x"}]})").error, HasSubstr("match"));
}

TEST(ConsulKeys, addresses_are_checked) {
  EXPECT_THAT(decode(R"({"address":"127.0.0.1:8500"})").error, HasSubstr("write http://127.0.0.1:8500"));
  EXPECT_THAT(decode(R"({"address":"http://c:8500?token=x"})").error, HasSubstr("token_file"));
  EXPECT_THAT(decode(R"({"address":"unix://run/c.sock"})").error, HasSubstr("unix:///"));
  EXPECT_EQ(decode(R"({"address":"unix:///run/c.sock"})").error, "");
  EXPECT_THAT(decode(R"({"services":[{"match":"a","address":"240.64.0.9:80"}]})").error, HasSubstr("a key of its own"));
}

TEST(ConsulKeys, what_is_encoded_decodes_to_the_same) {
  const auto first = decode(
      R"({"token_file":"/t","consistency":"default","services":["a",{"match":"b","tags":["x"],"protocol":"udp"}]})");
  ASSERT_EQ(first.error, "");
  std::string text;
  write_json(encode(kConsulTable, &first.settings, Secrets::kReveal), text);
  const auto second = decode(text);
  EXPECT_EQ(second.error, "");
  EXPECT_EQ(second.settings, first.settings);
}

}  // namespace
}  // namespace mesh::discovery
