def text(r):
    return "\n".join(f"{c['part']:12}{c['series']:28}{c['x']:>12} "+(c['wrong'] or " ".join(f"{k}={v[0]:g}({v[1]:g}-{v[2]:g})" for k,v in c['figures'].items()))+(f" first={c['first'].get('peak_mib')}" if 'peak_mib' in c['first'] else '') for c in r["cells"])+"\n"
def draw(r, d): pass
Results=dict
def page(t, r): return t
