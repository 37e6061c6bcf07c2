// SPDX-License-Identifier: Apache-2.0
// `sources:` of the configuration, with DNS as the kind of registry.
#include "discovery/source_keys.hpp"

#include <gtest/gtest.h>

#include "discovery/dns_keys.hpp"
#include "discovery/json_reader.hpp"
#include "discovery/yaml_reader.hpp"

namespace mesh::discovery {
namespace {

using namespace std::chrono_literals;

struct Decoded {
  std::vector<SourceSpec> sources;
  std::string findings;
};

Decoded decode(std::string_view yaml, const ServicePolicy& defaults = {}) {
  Decoded decoded;
  Findings findings;
  const Document document("m.yaml", yaml);
  const auto value = read_yaml(document, yaml, findings);
  if (value) {
    Decoder decoder(document, findings);
    decode_sources(decoder, *value, defaults, decoded.sources);
  }
  for (const Diagnostic& error : findings.errors) decoded.findings += error.to_string() + "\n";
  return decoded;
}

TEST(Sources, have_a_name_a_type_and_the_settings_of_their_type) {
  const auto [sources, findings] = decode(
      "- type: dns\n"
      "- {dns: {ttl_floor: 7s, services: [{name: a, host: A.Example., port: 80}]}, type: dns, name: second, "
      "max_stale: never, combine: failover}\n");
  EXPECT_EQ(findings, "");
  ASSERT_EQ(sources.size(), 2u);
  EXPECT_EQ(sources[0].name, "dns");
  EXPECT_EQ(sources[0].max_stale, 3600s);
  EXPECT_EQ(sources[0].combine, model::Combine::kIgnore);
  ASSERT_NE(sources[0].settings, nullptr);
  EXPECT_EQ(sources[1].name, "second");
  EXPECT_EQ(sources[1].max_stale, std::nullopt);
  EXPECT_EQ(sources[1].combine, model::Combine::kFailover);
  const auto& dns = *static_cast<const DnsSettings*>(sources[1].settings.get());
  EXPECT_EQ(dns.ttl_floor, 7s);
  EXPECT_EQ(dns.services[0].host, "a.example");
}

TEST(Sources, mistakes_are_named_with_their_place) {
  EXPECT_NE(decode("- {type: dsn}\n").findings.find("sources"), 0u);
  EXPECT_NE(decode("- {type: dsn}\n").findings.find("did you mean 'dns'"), std::string::npos)
      << decode("- {type: dsn}\n").findings;
  EXPECT_NE(decode("- {name: x}\n").findings.find("'type' is missing"), std::string::npos);
  EXPECT_NE(decode("- {type: dns, nmae: x}\n").findings.find("did you mean 'name'"), std::string::npos);
  EXPECT_NE(decode("- {type: dns, name: file}\n").findings.find("the name of a source of the agent"),
            std::string::npos);
  EXPECT_NE(decode("- {type: dns, name: A b}\n").findings.find("1 to 63"), std::string::npos);
  EXPECT_NE(decode("- {type: dns}\n- {type: dns}\n").findings.find("stands already"), std::string::npos);
  EXPECT_NE(decode("- {type: dns, max_stale: 1s}\n").findings.find("out of range"), std::string::npos);
  EXPECT_NE(decode("- {type: dns, dns: {services: [{name: a, port: 80}]}}\n").findings.find("'host' or 'srv'"),
            std::string::npos);
  EXPECT_NE(
      decode("- {type: dns, dns: {services: [{name: a, host: 'a b', port: 80}]}}\n").findings.find("no domain name"),
      std::string::npos);
  EXPECT_NE(decode("- {type: dns, dns: {services: [{name: a, host: a}]}}\n").findings.find("'port' is missing"),
            std::string::npos);
  EXPECT_NE(decode("- {type: dns, dns: {servers: [x]}}\n").findings.find("not the address of a resolver"),
            std::string::npos);
}

TEST(Sources, their_services_start_from_the_defaults_of_all_and_then_their_own) {
  ServicePolicy defaults;
  defaults.balance = model::Algorithm::kMaglev;
  defaults.panic_threshold = 7;
  const auto [sources, findings] =
      decode("- {type: dns, defaults: {panic_threshold: 30, probe: {type: tcp, interval: 9s}}}\n", defaults);
  EXPECT_EQ(findings, "");
  EXPECT_EQ(sources[0].policy.balance, model::Algorithm::kMaglev);
  EXPECT_EQ(sources[0].policy.panic_threshold, 30u);
  ASSERT_NE(sources[0].policy.probe, nullptr);
  EXPECT_EQ(sources[0].policy.probe->interval, 9s);
}

TEST(Sources, min_endpoints_is_a_number_for_all_or_a_list) {
  const auto [sources, findings] = decode(
      "- {type: dns, name: a, min_endpoints: 1}\n"
      "- {type: dns, name: b, min_endpoints: [{match: pay-*, count: 2}, all]}\n"
      "- {type: dns, name: c, min_endpoints: 0}\n");
  ASSERT_EQ(sources.size(), 3u) << findings;
  EXPECT_EQ(sources[0].min_endpoints, (std::vector<MinEndpoints>{{"all", 1}}));
  EXPECT_EQ(sources[1].min_endpoints, (std::vector<MinEndpoints>{{"pay-*", 2}, {"all", 1}}));
  EXPECT_TRUE(sources[2].min_endpoints.empty());
}

TEST(Sources, are_written_so_that_they_read_back_the_same) {
  ServicePolicy defaults;
  defaults.balance = model::Algorithm::kRoundRobin;
  const auto [sources, findings] = decode(
      "- {type: dns, name: x, max_stale: 2m, min_endpoints: [{match: a, count: 3}], combine: union, dns: {servers: "
      "[10.0.0.1, '[fd00::1]:5353'], services: "
      "[{name: a, host: a.example, port: 80}, {name: b, srv: _x._tcp.b.example, address: '240.64.0.1:80'}]}}\n",
      defaults);
  ASSERT_EQ(findings, "");
  std::string text;
  Value list = Value::list();
  list.items.push_back(encode_source(sources[0], Secrets::kReveal));
  write_json(list, text);
  Findings found;
  const Document document("state", text);
  const auto value = read_json(document, text, nullptr, found);
  ASSERT_TRUE(value);
  Decoder decoder(document, found);
  std::vector<SourceSpec> back;
  decode_sources(decoder, *value, {}, back);
  ASSERT_EQ(found.error_count(), 0u) << found.to_error().message << "\n" << text;
  ASSERT_EQ(back.size(), 1u);
  EXPECT_EQ(back[0].fingerprint(), sources[0].fingerprint());
  EXPECT_EQ(back[0].combine, model::Combine::kUnion);
  EXPECT_EQ(back[0].min_endpoints, (std::vector<MinEndpoints>{{"a", 3}}));
  EXPECT_EQ(back[0].policy, sources[0].policy);
}

}  // namespace
}  // namespace mesh::discovery
