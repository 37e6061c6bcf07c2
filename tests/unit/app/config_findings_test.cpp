// SPDX-License-Identifier: Apache-2.0
// Wrong configurations and the exact words that an operator gets for them.
#include <gtest/gtest.h>

#include "app/config.hpp"

namespace mesh::app {
namespace {

struct Case {
  const char* name;
  const char* text;
  const char* findings;  ///< One line each, errors before warnings.
};

std::string findings_of(const std::vector<ConfigText>& files) {
  const LoadResult result = parse_config(files);
  std::string text;
  for (const Diagnostic& error : result.errors) text += error.to_string() + "\n";
  for (const Diagnostic& warning : result.warnings) text += "warning: " + warning.to_string() + "\n";
  return text;
}

#define HEAD "apiVersion: meshd/v1\nagent: {cgroups: [/]}\n"
#define ONE_SERVICE(more) HEAD "services:\n- {name: a, address: 240.64.0.1:80, endpoints: [10.0.0.1:80]" more "}\n"

const Case kCases[] = {
    {"an_empty_file", "",
     "m.yaml: the file is empty; write at least `apiVersion: meshd/v1`, in a file of services `services: []`\n"},
    {"only_a_comment", "# nothing\n",
     "m.yaml: the file is empty; write at least `apiVersion: meshd/v1`, in a file of services `services: []`\n"},
    {"text_that_is_no_yaml", "agent: [\n",
     "m.yaml:2:1: not YAML: end of sequence flow not found; look here and above for an open bracket or quote, a "
     "missing "
     "colon, or a tab\n"},
    {"a_second_document", HEAD "---\na: b\n",
     "m.yaml: more than one YAML document; remove the second '---' and what follows\n"},
    {"a_list_instead_of_a_map", "- a\n",
     "m.yaml:1:1: must be a map of keys and values, not a list\n"
     "m.yaml:1:1: the key 'agent' is missing; write agent: {cgroups: [/system.slice/shop.service]}; [/] is the whole "
     "host\n"},
    {"nothing_but_the_version", "apiVersion: meshd/v1\n",
     "m.yaml:1:1: the key 'agent' is missing; write agent: {cgroups: [/system.slice/shop.service]}; [/] is the whole "
     "host\n"},
    {"a_missing_version", "agent: {cgroups: [/]}\n",
     "m.yaml:1:1: the key 'apiVersion' is missing; write apiVersion: meshd/v1\n"},
    {"another_version", "apiVersion: meshd/v2\nagent: {cgroups: [/]}\n",
     "m.yaml:1:13: apiVersion: unknown version 'meshd/v2'; write meshd/v1\n"},
    {"an_unknown_section", HEAD "service: []\n", "m.yaml:3:1: service: unknown key; did you mean 'services'?\n"},
    {"a_duplicate_key", HEAD "services: []\nservices: []\n",
     "m.yaml:4:1: duplicate key 'services'; it stands already in line 3; keep one of them\n"},
    {"no_cgroups", "apiVersion: meshd/v1\nagent: {loop: epoll}\n",
     "m.yaml:2:8: agent: the key 'cgroups' is missing; write cgroups: [/system.slice/shop.service]; [/] is the whole "
     "host\n"},
    {"empty_cgroups", "apiVersion: meshd/v1\nagent: {cgroups: []}\n",
     "m.yaml:2:18: agent.cgroups: names no cgroup; write [/system.slice/shop.service], or [/] for the whole host\n"},
    {"a_cgroup_without_a_list", "apiVersion: meshd/v1\nagent: {cgroups: /}\n",
     "m.yaml:2:18: agent.cgroups: must be a list, not '/'; write [/]\n"},
    {"a_relative_cgroup", "apiVersion: meshd/v1\nagent: {cgroups: [shop.service, /a/../b]}\n",
     "m.yaml:2:19: agent.cgroups[0]: 'shop.service' is not a path below the cgroup2 mount; write it as "
     "/system.slice/shop.service\n"
     "m.yaml:2:33: agent.cgroups[1]: '/a/../b' is not a path below the cgroup2 mount; write it as "
     "/system.slice/shop.service\n"},
    {"nested_cgroups", "apiVersion: meshd/v1\nagent:\n  cgroups: [/a/b, /a, /a/, /ab]\n",
     "warning: m.yaml:3:13: agent.cgroups: /a/b is covered by /a; remove it\n"
     "warning: m.yaml:3:23: agent.cgroups: /a stands twice; remove it\n"},
    {"a_misspelt_agent_key", "apiVersion: meshd/v1\nagent: {cgroups: [/], bpfs: /sys/fs/bpf}\n",
     "m.yaml:2:23: agent.bpfs: unknown key in agent; did you mean 'bpffs'?\n"},
    {"a_relative_path", "apiVersion: meshd/v1\nagent: {cgroups: [/], run_dir: run}\n",
     "m.yaml:2:32: agent.run_dir: a path starts with /\n"},
    {"an_unknown_loop", "apiVersion: meshd/v1\nagent: {cgroups: [/], loop: uring}\n",
     "m.yaml:2:29: agent.loop: unknown value 'uring'; use one of: auto, io_uring, epoll\n"},
    {"metrics_for_everybody", "apiVersion: meshd/v1\nagent: {cgroups: [/], metrics: {listen: 0.0.0.0:9464}}\n",
     "m.yaml:2:32: agent.metrics: 0.0.0.0:9464 can be reached from other machines; add tls, token_file or both\n"},
    {"tls_without_its_key",
     "apiVersion: meshd/v1\nagent: {cgroups: [/], metrics: {tls: {certificate: /etc/cert.pem}}}\n",
     "m.yaml:2:38: agent.metrics: TLS needs a certificate and its key; add key\n"},
    {"too_few_ranges", "apiVersion: meshd/v1\nagent: {cgroups: [/], limits: {services: 1000, ranges: 500}}\n",
     "m.yaml:2:56: agent.limits.ranges: 500 are too few for 1000 services; use 2000, or remove the key\n"},
    {"shards_that_are_no_power_of_two", "apiVersion: meshd/v1\nagent: {cgroups: [/], limits: {live_shards: 3}}\n",
     "m.yaml:2:45: agent.limits.live_shards: 3 is not a power of two; use 4\n"},
    {"a_canary_of_the_other_family",
     "apiVersion: meshd/v1\nagent: {cgroups: [/], canary: {address6: 10.0.0.1, interval: 2}}\n",
     "m.yaml:2:42: agent.canary.address6: '10.0.0.1' is not an IPv6 address; name one that nothing uses, as "
     "fd6d:6573:6864::fffe\n"
     "m.yaml:2:62: agent.canary.interval: '2' is not a duration: the unit is missing; write 2s for seconds, 2ms for "
     "milliseconds\n"},
    {"yes_instead_of_true", "apiVersion: meshd/v1\nagent: {cgroups: [/], canary: {enabled: yes}}\n",
     "m.yaml:2:41: agent.canary.enabled: must be true or false, not 'yes'; write true\n"},
    {"a_quoted_number", "apiVersion: meshd/v1\nagent: {cgroups: [/], max_probes_per_second: \"100\"}\n",
     "m.yaml:2:46: agent.max_probes_per_second: must be a whole number, not a string; remove the quotes\n"},
    {"a_number_out_of_range", "apiVersion: meshd/v1\nagent: {cgroups: [/], max_probes_per_second: 0}\n",
     "m.yaml:2:46: agent.max_probes_per_second: 0 is out of range; use 1 to 1000000\n"},
    {"a_huge_number", "apiVersion: meshd/v1\nagent: {cgroups: [/], max_probes_per_second: 99999999999999999999}\n",
     "m.yaml:2:46: agent.max_probes_per_second: 99999999999999999999 is out of range; use 1 to 1000000\n"},
    {"a_key_without_a_value", "apiVersion: meshd/v1\nagent: {cgroups: [/], loop: }\n",
     "m.yaml:2:23: agent.loop: has no value; use one of: auto, io_uring, epoll\n"},
    {"an_unknown_algorithm", ONE_SERVICE(", balance: roundrobin"),
     "m.yaml:4:72: services[0].balance: unknown value 'roundrobin'; did you mean 'round_robin'?\n"},
    {"an_algorithm_like_none", ONE_SERVICE(", balance: xyz"),
     "m.yaml:4:72: services[0].balance: unknown value 'xyz'; use one of: weighted_random, round_robin, maglev, "
     "source_hash, least_connections, latency\n"},
    {"latency_without_what_it_needs", ONE_SERVICE(", balance: latency, feedback: false"),
     "m.yaml:4:72: services[0].balance: latency needs what connections experienced; write feedback: true, or balance: "
     "least_connections\n"},
    {"a_percentage_with_its_sign", ONE_SERVICE(", panic_threshold: 50%"),
     "m.yaml:4:80: services[0].panic_threshold: must be a whole number, not '50%'; write 50 without the %\n"},
    {"a_table_size_that_is_no_prime", ONE_SERVICE(", maglev_size: 4096"),
     "m.yaml:4:76: services[0].maglev_size: 4096 is not a prime; the nearest are 4093 and 4099\n"},
    {"an_affinity_finer_than_seconds", ONE_SERVICE(", affinity_timeout: 1500ms"),
     "m.yaml:4:81: services[0].affinity_timeout: 1500ms is finer than 1s; use a multiple of 1s\n"},
    {"a_name_with_capitals", HEAD "services:\n- {name: Orders, address: 240.64.0.1:80, endpoints: []}\n",
     "m.yaml:4:10: services[0].name: a name is 1 to 253 of a-z 0-9 . - / _; write orders\n"},
    {"a_service_without_anything", HEAD "services:\n- {}\n-\n- text\n",
     "m.yaml:4:3: services[0]: the key 'name' is missing\n"
     "m.yaml:4:3: services[0]: the key 'address' is missing\n"
     "m.yaml:4:3: services[0]: a service needs 'endpoints' or a 'file'; write endpoints: [] for a service without "
     "servers\n"
     "m.yaml:6:1: services[1]: the key 'name' is missing\n"
     "m.yaml:6:1: services[1]: the key 'address' is missing\n"
     "m.yaml:6:3: services[2]: must be a map of keys and values, not 'text'\n"},
    {"an_address_without_a_port", HEAD "services:\n- {name: a, address: 240.64.0.1, endpoints: []}\n",
     "m.yaml:4:22: services[0].address: parse address '240.64.0.1': the port is missing; write it as 10.0.0.1:80 or "
     "[fd00::1]:80\n"},
    {"an_address_that_is_none", HEAD "services:\n- {name: a, address: 0.0.0.0:80, endpoints: []}\n",
     "m.yaml:4:22: services[0].address: '0.0.0.0:80' is no address that one can connect to\n"},
    {"endpoints_and_a_file", ONE_SERVICE(", file: /a.json"),
     "m.yaml:4:63: services[0].file: a service has either 'endpoints' or a 'file'; remove one of them\n"},
    {"a_relative_file", HEAD "services:\n- {name: a, address: 240.64.0.1:80, file: a.json}\n",
     "m.yaml:4:43: services[0].file: a path starts with /\n"},
    {"an_unknown_protocol", ONE_SERVICE(", protocol: [tcp, sctp]"),
     "m.yaml:4:79: services[0].protocol[1]: unknown value 'sctp'; use one of: tcp, udp\n"},
    {"a_protocol_twice", ONE_SERVICE(", protocol: [tcp, tcp]"),
     "m.yaml:4:79: services[0].protocol[1]: tcp stands twice\n"},
    {"an_endpoint_of_the_other_family",
     HEAD "services:\n- name: a\n  address: 240.64.0.1:80\n  endpoints:\n  - 10.0.0.1:80\n  - {weight: 1, address: "
          "\"[fd00::1]:80\"}\n",
     "m.yaml:8:26: services[0].endpoints[1]: [fd00::1]:80 is IPv6, the service's address 240.64.0.1:80 is IPv4; a "
     "service and its endpoints are of one family\n"},
    {"an_endpoint_twice",
     HEAD
     "services:\n- {name: a, address: 240.64.0.1:80, endpoints: [10.0.0.1:80, 10.0.0.2:80, {address: 10.0.0.1:80}]}\n",
     "m.yaml:4:85: services[0].endpoints[2]: endpoint 10.0.0.1:80 stands twice; remove one of them\n"},
    {"an_endpoint_that_is_the_service",
     HEAD "services:\n- {name: a, address: 240.64.0.1:80, endpoints: [240.64.0.1:80]}\n",
     "m.yaml:4:49: services[0].endpoints[0]: 240.64.0.1:80 is the service's own address; name the servers' "
     "addresses\n"},
    {"an_endpoint_that_is_another_service",
     HEAD "services:\n- {name: a, address: 240.64.0.1:80, endpoints: [240.64.0.2:80]}\n- {name: b, address: "
          "240.64.0.2:80, endpoints: []}\n",
     "m.yaml:4:22: services[0].endpoints: 240.64.0.2:80 is the address of service b (m.yaml:5); name the servers' own "
     "addresses: a service can't be the endpoint of another\n"},
    {"weights_out_of_range",
     HEAD "services:\n- {name: a, address: 240.64.0.1:80, endpoints: [{address: 10.0.0.1:80, weight: 65536}, {address: "
          "10.0.0.2:80, weight: -1}, {address: 10.0.0.3:80, weight: 1.5}]}\n",
     "m.yaml:4:80: services[0].endpoints[0].weight: 65536 is out of range; use 0 to 65535\n"
     "m.yaml:4:119: services[0].endpoints[1].weight: -1 is out of range; use 0 to 65535\n"
     "m.yaml:4:155: services[0].endpoints[2].weight: must be a whole number, not '1.5'; use 0 to 65535\n"},
    {"an_endpoint_without_an_address",
     HEAD "services:\n- {name: a, address: 240.64.0.1:80, endpoints: [{weigth: 2}]}\n",
     "m.yaml:4:50: services[0].endpoints[0].weigth: unknown key in an endpoint; did you mean 'weight'?\n"
     "m.yaml:4:49: services[0].endpoints[0]: the key 'address' is missing\n"},
    {"overlapping_services",
     HEAD "services:\n- {name: a, address: 240.64.0.1:80, endpoints: []}\n- {name: b, address: 240.64.0.1:80, "
          "protocol: [udp, tcp], endpoints: []}\n",
     "m.yaml:5:22: services[1].address: 240.64.0.1:80/tcp is the address of service a (m.yaml:4) already; one address, "
     "port and protocol is one service\n"},
    {"a_service_on_the_canary", HEAD "services:\n- {name: a, address: 240.79.255.254:80, endpoints: []}\n",
     "m.yaml:4:22: services[0].address: 240.79.255.254 is the canary's own address; use another, or set "
     "agent.canary.address4 or address6\n"},
    {"a_duration_without_a_unit", ONE_SERVICE(", probe: {interval: 5}"),
     "m.yaml:4:81: services[0].probe.interval: '5' is not a duration: the unit is missing; write 5s for seconds, 5ms "
     "for milliseconds\n"},
    {"a_duration_with_a_strange_unit", ONE_SERVICE(", probe: {interval: 5sec}"),
     "m.yaml:4:81: services[0].probe.interval: '5sec' is not a duration: unknown unit 'sec'; units are ns, us, ms, s, "
     "m, h, d\n"},
    {"a_duration_out_of_range", ONE_SERVICE(", probe: {interval: 2h}"),
     "m.yaml:4:81: services[0].probe.interval: 2h is out of range; use 10ms to 1h\n"},
    {"a_timeout_longer_than_the_interval", ONE_SERVICE(", probe: {interval: 1s, timeout: 2s}"),
     "m.yaml:4:94: services[0].probe.timeout: longer than the interval of 1000ms; shorten it or set a longer "
     "interval\n"},
    {"a_path_for_a_tcp_probe", ONE_SERVICE(", probe: {path: /healthz}"),
     "m.yaml:4:71: services[0].probe.path: has no meaning for a tcp probe; set type: http or https, or remove it\n"},
    {"a_path_without_a_slash", ONE_SERVICE(", probe: {type: http, path: healthz}"),
     "m.yaml:4:89: services[0].probe.path: a path starts with /; write /healthz\n"},
    {"statuses_that_are_none", ONE_SERVICE(", probe: {type: http, expect: [200, 600, 2xx, 299-200]}"),
     "m.yaml:4:97: services[0].probe.expect[1]: must be a status or a range of statuses from 100 to 599; write 200 or "
     "\"200-299\"\n"
     "m.yaml:4:102: services[0].probe.expect[2]: must be a status or a range of statuses from 100 to 599; write 200 or "
     "\"200-299\"\n"
     "m.yaml:4:107: services[0].probe.expect[3]: must be a status or a range of statuses from 100 to 599; write 200 or "
     "\"200-299\"\n"},
    {"a_header_name_with_a_space", ONE_SERVICE(", probe: {type: http, headers: {a b: c, d: [e]}}"),
     "m.yaml:4:93: services[0].probe.headers.a b: not a header name\n"
     "m.yaml:4:104: services[0].probe.headers.d: must be a string, not a list\n"},
    {"a_probe_that_is_a_word", ONE_SERVICE(", probe: tcp"),
     "m.yaml:4:70: services[0].probe: must be a map of keys and values, or none; write {type: tcp}\n"},
    {"a_relative_entry_of_files", HEAD "files: [services.d, /a.json, /a.json]\n",
     "m.yaml:3:9: files[0]: a path starts with /\n"
     "m.yaml:3:30: files[2]: /a.json stands twice; remove one of them\n"},
    {"an_alias_inside_itself", HEAD "services: &a [*a]\n", "m.yaml:3:15: an alias can't stand inside what it names\n"},
    {"a_list_as_a_key", HEAD "? [a]\n: b\n", "m.yaml:3:3: a key can't be a list or a map\n"},
    {"nested_too_deep", HEAD "services: [[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]\n",
     "m.yaml:3:26: nested deeper than 16 levels\n"},
    {"mistakes_of_every_kind_at_once",
     HEAD "services:\n- {name: a, name: b, address: 240.64.0.1:80, protocoll: tcp, endpoints: [\"[fd00::1]:80\"]}\n"
          "- {name: c, address: 240.64.0.1:80, balance: fair, endpoints: []}\n",
     "m.yaml:4:13: duplicate key 'name'; it stands already in line 4; keep one of them\n"
     "m.yaml:4:46: services[0].protocoll: unknown key in a service; did you mean 'protocol'?\n"
     "m.yaml:4:74: services[0].endpoints[0]: [fd00::1]:80 is IPv6, the service's address 240.64.0.1:80 is IPv4; a "
     "service and its endpoints are of one family\n"
     "m.yaml:5:46: services[1].balance: unknown value 'fair'; use one of: weighted_random, round_robin, maglev, "
     "source_hash, least_connections, latency\n"
     "m.yaml:5:22: services[1].address: 240.64.0.1:80/tcp is the address of service b (m.yaml:4) already; one address, "
     "port and protocol is one service\n"},
    {"two_errors_and_more", "apiVersion: 1\nagent: {cgroup: [/], log: {levl: info, format: xml}}\ndefault: {}\n",
     "m.yaml:3:1: default: unknown key; did you mean 'defaults'?\n"
     "m.yaml:1:13: apiVersion: unknown version '1'; write meshd/v1\n"
     "m.yaml:2:9: agent.cgroup: unknown key in agent; did you mean 'cgroups'?\n"
     "m.yaml:2:28: agent.log.levl: unknown key in log; did you mean 'level'?\n"
     "m.yaml:2:48: agent.log.format: unknown value 'xml'; use one of: auto, text, json\n"
     "m.yaml:2:8: agent: the key 'cgroups' is missing; write cgroups: [/system.slice/shop.service]; [/] is the whole "
     "host\n"},
};

TEST(ConfigOfAnotherKind, is_not_called_empty) {
  EXPECT_EQ(findings_of({{"m.yaml", "m.yaml", std::string("ELF\0\1", 5)}}),
            "m.yaml: not YAML: byte 4 is zero; name a text file in UTF-8\n");
}

class ConfigFindings : public testing::TestWithParam<Case> {};

TEST_P(ConfigFindings, name_place_key_and_remedy) {
  EXPECT_EQ(findings_of({{"m.yaml", "m.yaml", GetParam().text}}), GetParam().findings) << GetParam().text;
}

INSTANTIATE_TEST_SUITE_P(all, ConfigFindings, testing::ValuesIn(kCases),
                         [](const testing::TestParamInfo<Case>& info) { return info.param.name; });

TEST(ConfigFindings, sections_of_several_files_are_checked_together) {
  EXPECT_EQ(findings_of({{"m.yaml", "m.yaml", ONE_SERVICE("")},
                         {"conf.d/x.yaml", "conf.d/x.yaml",
                          "apiVersion: meshd/v1\nagent: {cgroups: [/a]}\nservices:\n"
                          "- {name: b, address: 240.64.0.1:80, endpoints: [240.64.0.1:81]}\n"}}),
            "conf.d/x.yaml:2:1: agent: stands in m.yaml already; keep it in one file\n"
            "conf.d/x.yaml:4:22: services[0].address: 240.64.0.1:80/tcp is the address of service a (m.yaml:4) "
            "already; one address, port and protocol is one service\n");
}

}  // namespace
}  // namespace mesh::app
