// SPDX-License-Identifier: Apache-2.0
#include "discovery/eureka_keys.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "discovery/yaml_reader.hpp"

namespace mesh::discovery {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;

struct Read {
  EurekaSettings settings;
  Findings findings;
  [[nodiscard]] std::string error() const { return findings.errors.empty() ? "" : findings.errors.front().message; }
};

Read read(const std::string& yaml) {
  Read result;
  const Document document("test.yaml", yaml);
  const auto value = read_yaml(document, yaml, result.findings);
  EXPECT_TRUE(value);
  Decoder decoder(document, result.findings);
  decoder.table(kEurekaTable, *value, &result.settings);
  finish_eureka_settings(decoder, *value, result.settings);
  return result;
}

TEST(EurekaKeys, settings_are_read_and_written_alike) {
  const auto first = read(
      "servers: [\"http://eureka-1:8761/eureka/\", \"https://eureka-2/eureka/v2\"]\n"
      "credentials_file: /etc/meshd/eureka\ntls: {ca_file: /ca.pem, verify: false}\ninterval: 10s\nfull_every: 5\n"
      "timeout: 2s\ndefault_probe: false\n"
      "services: [orders, {match: pay, name: payments, address: 240.64.0.9, port: 80, secure: true}]\n");
  EXPECT_EQ(first.error(), "");
  EXPECT_EQ(first.settings.servers,
            (std::vector<std::string>{"http://eureka-1:8761/eureka", "https://eureka-2/eureka/v2"}));
  ASSERT_EQ(first.settings.services.size(), 2U);
  EXPECT_EQ(first.settings.services[1],
            (EurekaRule{.match = "pay", .name = "payments", .address = "240.64.0.9", .port = 80, .secure = true}));
  std::string written;
  write_json(encode(kEurekaTable, &first.settings, Secrets::kReveal), written, JsonStyle::kCompact);
  const auto second = read(written);
  EXPECT_EQ(second.error(), "");
  EXPECT_EQ(second.settings, first.settings);
}

TEST(EurekaKeys, mistakes_are_named) {
  EXPECT_THAT(read("servers: [eureka:8761]\n").error(), HasSubstr("not the address of a Eureka server"));
  EXPECT_THAT(read("servers: [\"http://me:secret@eureka/eureka\"]\n").error(), HasSubstr("no user and password"));
  EXPECT_THAT(read("servers: [\"http://eureka/eureka?x\"]\n").error(), HasSubstr("no query"));
  EXPECT_THAT(read("servers: []\n").error(), HasSubstr("names no server"));
  EXPECT_THAT(read("services: [\"*\"]\n").error(), HasSubstr("matches whatever is there"));
  EXPECT_THAT(read("services: [{match: \"pay-*\", name: pay}]\n").error(), HasSubstr("can match several"));
  EXPECT_THAT(read("services: [{match: pay, address: nowhere}]\n").error(), HasSubstr("not an IP address"));
  EXPECT_THAT(read("credentials_file: secret\n").error(), HasSubstr("starts with /"));
}

TEST(EurekaKeys, nothing_is_chosen_unless_it_is_said) {
  const auto nothing = read("servers: [\"http://eureka/eureka\"]\n");
  EXPECT_EQ(nothing.error(), "");
  ASSERT_FALSE(nothing.findings.warnings.empty());
  EXPECT_THAT(nothing.findings.warnings.front().message, HasSubstr("no application is chosen"));
  EXPECT_THAT(nothing.settings.services, IsEmpty());
  EXPECT_THAT(read("services: [all]\n").findings.warnings, IsEmpty());
}

}  // namespace
}  // namespace mesh::discovery
